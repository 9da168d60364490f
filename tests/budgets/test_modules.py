"""What start-up imports: each module by name, in `modules/`, so that whatever is new is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.cli import Folder, folder
from tests.support.imports import imported_by

LISTS = Path(__file__).parent / "modules"
COMMANDS = {"version": ("--version",), "validate": ("validate",), "plan": ("plan", "--detailed-exitcode")}
CONFIG = """version: 1
stack: budget
backends: {main: {type: memory, path: world.json}}
sandboxes: {s: {replicas: 10, image: one}}
"""


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory):
    with folder(tmp_path_factory.mktemp("modules")) as made:
        made.write(CONFIG)
        made("apply", "--auto-approve")
        yield made


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_imports_no_module_that_is_not_on_its_list(
    name: str, applied: Folder, request: pytest.FixtureRequest
) -> None:
    found = named(imported_by(*COMMANDS[name], cwd=applied.path))
    path = LISTS / f"{name}.txt"
    if request.config.getoption("--update"):
        path.write_text("".join(f"{line}\n" for line in (VERSION, *sorted(found))), encoding="utf-8")
    version, *listed = path.read_text(encoding="utf-8").splitlines()
    if version != VERSION:  # another library: what is in it says nothing about ours
        found = {module for module in found if not of_the_library(module)}
    new, gone = sorted(found - set(listed)), sorted(set(listed) - found) if version == VERSION else []
    assert not new, f"`{name}` imports {len(new)} more than before: {', '.join(new)}\n{ADVICE}"
    assert not gone, (
        f"`{name}` does without {', '.join(gone)} now: keep what is won by `pytest --update {HERE}`"
    )


HERE = "tests/budgets"
VERSION = f"# Python {sys.version_info[0]}.{sys.version_info[1]}"
ADVICE = (
    "Import it inside the function that needs it. If every run needs it: `pytest --update tests/budgets`, and say why "
    "in the commit."
)


def named(modules: frozenset[str]) -> set[str]:
    """Ours and other people's, each; of the standard library what one would import: how it is made of parts differs
    between versions of Python."""
    return {
        module.partition(".")[0] if of_the_library(module) else module
        for module in modules
        if not (of_the_library(module) and module.startswith("_"))
    }


def of_the_library(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def test_what_is_counted_is_what_a_command_imports() -> None:
    found = imported_by("--version")
    assert "reconciler" in found
    assert not found & {"click", "encodings", "site"}, "what every Python imports is not counted"
    assert named(frozenset({"json", "json.decoder", "_json", "yaml.nodes"})) == {"json", "yaml.nodes"}
