"""The conformance suite on the real engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.backends.base import SandboxBackend
from reconciler.backends.docker import DockerBackend
from reconciler.model.observed import SandboxInfo
from reconciler.testing.backend_conformance import BackendConformance
from tests.support.docker import EngineStack


@pytest.mark.slow
class TestDocker(BackendConformance):
    @pytest.fixture
    def backend(self, docker_stack: EngineStack, tmp_path: Path) -> SandboxBackend:
        self.stack = docker_stack
        self.nowhere = f"unix://{tmp_path}/none.sock"
        self.options = {
            "host": docker_stack.host,
            "image": docker_stack.images.agent,
            "stop_timeout": 1,
            "secrets_root": str(tmp_path / "secrets"),
        }
        return DockerBackend(**self.options)

    def another(self, backend: SandboxBackend) -> SandboxBackend:
        return DockerBackend(**self.options)

    def kill(self, backend: SandboxBackend, info: SandboxInfo) -> None:
        self.stack.client.api.kill(info.container_id)

    @pytest.fixture(autouse=True)
    def _nowhere(self, tmp_path: Path) -> None:
        self.nowhere = f"unix://{tmp_path}/none.sock"

    def unreachable(self) -> SandboxBackend:
        return DockerBackend(self.nowhere)
