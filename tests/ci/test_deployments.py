"""The files of `examples/` that say how a watch is run, tried: each kind is really started, and puts back what is killed."""

from __future__ import annotations

import pytest

from tests.ci.booted import SYSTEMD_UNITS
from tests.ci.composed import COMPOSE
from tests.ci.lab import key, told, tried
from tests.ci.pods import KUBELET
from tests.support.docker import requires_docker
from tests.support.once import Verdicts, once
from tests.support.required import skip_unless

DEPLOYMENTS = {"compose": COMPOSE, "systemd": SYSTEMD_UNITS, "kubelet": KUBELET}
CHECKS = [key(name, check) for name, deployment in DEPLOYMENTS.items() for check in deployment.checks]


@pytest.fixture(scope="session")
def verdicts(tmp_path_factory: pytest.TempPathFactory, docker_engine: str) -> Verdicts:
    skip_unless(docker_engine.startswith("unix://"), "the engine is on another machine")
    folder = tmp_path_factory.mktemp("deployments")
    return once(tmp_path_factory, "deployments", lambda: tried(DEPLOYMENTS, docker_engine, folder))


@requires_docker
@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_deployed_by(verdicts: Verdicts, check: str) -> None:
    told(verdicts, check)
