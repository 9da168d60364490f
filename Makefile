# Everything here needs Python 3.11 or newer, git and make; all else goes into .venv.
.DEFAULT_GOAL := help
SHELL := /bin/sh

# The first Python that is new enough, unless you name one: make PYTHON=/path/to/python3.13 test
ENOUGH := import sys; raise SystemExit(sys.version_info < (3, 11))
PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do \
	"$$each" -c '$(ENOUGH)' >/dev/null 2>&1 && { echo "$$each"; break; }; done)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
WORKERS ?= auto
FUZZ ?= --seconds 300 --runs 1000000
CHAOS ?= --seconds 300 --runs 1000000
CONTENTION ?= --processes 50 --rounds 20
CRASH ?=
SOAK_SECONDS ?= 60
SOAK_BACKEND ?= process
COVERAGE_FLOOR ?= 91
CLEAN_VENV ?=  # where `make check` leaves the environment that has nothing but the wheel; nowhere by default
SOURCES := reconciler tests examples benchmarks docs

.PHONY: help run test check lint types imports docs bench bench-quick fuzz chaos lock-contention crash-matrix soak watch-soak test-kubernetes wheel clean

help:
	@echo "make run     install into .venv and run the tour (examples/tour.py)"
	@echo "make test    run the tests"
	@echo "make check   everything CI asks for: format, lint, types, imports, tests, coverage, docs, wheel"
	@echo "make bench   measure beside the peers, and write docs/benchmarks.md anew (12 minutes; bench-quick: 2)"
	@echo "make fuzz    live random life cycles for a while (FUZZ='--seed 1 --seconds 600')"
	@echo "make chaos   live hours of chaos with a watch, in virtual time (CHAOS='--seed 7 --runs 1 --story')"
	@echo "make lock-contention  fifty processes contend for one lock, and fifty applies for one stack (CONTENTION='--open ...')"
	@echo "make crash-matrix  kill every operation everywhere, or fill its disk, and see that it converges (CRASH='--backend memory')"
	@echo "make soak    random life cycles that are killed, for SOAK_SECONDS=60 on SOAK_BACKEND=process"
	@echo "make watch-soak  a watch beside sandboxes that are killed, for SOAK_SECONDS=60"
	@echo "make test-kubernetes KUBECONFIG=FILE  the Kubernetes tests on that cluster, in namespaces of their own"
	@echo "make docs    write the generated reference in docs/ anew"
	@echo "make clean   remove .venv and everything that was built"

run: $(VENV)/.installed
	@$(BIN)/python examples/tour.py

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: lint types imports $(VENV)/.dev
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -rs --durations=15 --cov --cov-report=term --cov-fail-under=$(COVERAGE_FLOOR)
	.ci/wheel $(BIN)/python $(CLEAN_VENV)
	@echo "make check: all is well"

lint: $(VENV)/.dev
	$(BIN)/ruff format --check $(wildcard $(SOURCES))
	$(BIN)/ruff check $(wildcard $(SOURCES))

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.installed
	$(BIN)/python docs/generate.py

# RECONCILER_TEST_IMAGE names an image that answers GET /v1/sandbox on 8080 and that the cluster can have.
test-kubernetes: $(VENV)/.test
	@test -n "$(KUBECONFIG)" || { echo "which cluster? make test-kubernetes KUBECONFIG=FILE" >&2; exit 64; }
	RECONCILER_TEST_KUBECONFIG="$(abspath $(KUBECONFIG))" $(BIN)/python -m pytest -n 2 --dist worksteal -rs tests/kubernetes

fuzz: $(VENV)/.test
	$(BIN)/python -m tests.fuzz $(FUZZ)

chaos: $(VENV)/.test
	$(BIN)/python -m tests.sim $(CHAOS)

lock-contention: $(VENV)/.test
	$(BIN)/python -m tests.stores.contention $(CONTENTION)
	$(BIN)/python -m tests.e2e.race

crash-matrix: $(VENV)/.test
	$(BIN)/python -m tests.crash matrix $(CRASH)

soak: $(VENV)/.test
	$(BIN)/python -m tests.crash soak --seconds $(SOAK_SECONDS) --backend $(SOAK_BACKEND)

watch-soak: $(VENV)/.test
	$(BIN)/python -m tests.e2e.watch_soak --seconds $(SOAK_SECONDS)

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks --docs

bench-quick: $(VENV)/.test
	$(BIN)/python -m benchmarks --quick

wheel: $(VENV)/.dev
	.ci/wheel $(BIN)/python

clean:
	rm -rf $(VENV) dist build .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: what is installed is installed again only when pyproject.toml or this file changes.
# The interpreter is asked twice because a `python3 -m venv` without ensurepip leaves half an environment behind.
$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found." >&2; \
		echo "  Install one (Debian 12: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@"$(PYTHON)" -c '$(ENOUGH)' || { echo "error: $(PYTHON) cannot be used: it is older than Python 3.11, or does not run." >&2; \
		echo "  Name another one: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: $(PYTHON) cannot make virtual environments: ensurepip is missing." >&2; \
		echo "  On Debian and Ubuntu: apt install $$("$(PYTHON)" -c 'import sys; print(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv")')" >&2; exit 1; }
	@rm -rf $(VENV)
	@"$(PYTHON)" -m venv $(VENV)

$(VENV)/.installed: pyproject.toml Makefile | $(VENV)/bin/python
	@echo "installing into $(VENV) ..."
	@$(PIP) install -e .
	@touch $@

# Dependency groups need pip 25.1; an interpreter may bring an older one.
$(VENV)/.test: $(VENV)/.installed
	@echo "installing what the tests need ..."
	@$(PIP) install --upgrade "pip>=25.1"
	@$(PIP) install -e . --group test
	@$(PIP) install --no-deps --group client
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	@echo "installing what the checks need ..."
	@$(PIP) install -e . --group dev
	@touch $@
