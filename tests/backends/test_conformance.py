"""The conformance suite on every backend that needs no engine of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from reconciler.backends.adapter import presented
from reconciler.backends.base import SandboxBackend
from reconciler.backends.memory import MemoryBackend
from reconciler.backends.process import ProcessBackend
from reconciler.model.observed import SandboxInfo
from reconciler.testing.backend_conformance import BackendConformance
from tests.backends.processes import ISOLATIONS, pids
from tests.backends.seed_contract import RUNNING, SeedBackend


class TestMemory(BackendConformance):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> SandboxBackend:
        self.options = {"world": str(tmp_path)}
        return MemoryBackend(**self.options)

    def another(self, backend: SandboxBackend) -> SandboxBackend:
        return MemoryBackend(**self.options)

    def kill(self, backend: SandboxBackend, info: SandboxInfo) -> None:
        assert isinstance(backend, MemoryBackend)
        backend.kill(info.sandbox_id)


class TestMemoryInAFile(TestMemory):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> SandboxBackend:
        self.options = {"path": str(tmp_path / "world.json")}
        return MemoryBackend(**self.options)

    @pytest.fixture(autouse=True)
    def _broken_file(self, tmp_path: Path) -> None:
        self.broken = tmp_path / "broken.json"
        self.broken.write_text("{no json")

    def unreachable(self) -> SandboxBackend:
        return MemoryBackend(path=str(self.broken))


class TestProcess(BackendConformance):
    @pytest.fixture(params=ISOLATIONS)
    def backend(self, tmp_path: Path, request: pytest.FixtureRequest) -> SandboxBackend:
        self.root = tmp_path / "state"
        return ProcessBackend(str(self.root), request.param)

    def another(self, backend: SandboxBackend) -> SandboxBackend:
        assert isinstance(backend, ProcessBackend)
        return ProcessBackend(backend.root, backend.isolation)

    def kill(self, backend: SandboxBackend, info: SandboxInfo) -> None:
        os.kill(pids(self.root, info.sandbox_id)["main"], signal.SIGKILL)

    @pytest.fixture(autouse=True)
    def _plain_file(self, tmp_path: Path) -> None:
        self.file = tmp_path / "file"
        self.file.write_text("not a directory")

    def unreachable(self) -> SandboxBackend:
        return ProcessBackend(str(self.file), "none")


class TestBackendOfTheSeed(BackendConformance):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> SandboxBackend:
        self.engine = str(tmp_path)
        return presented(SeedBackend(self.engine))

    def another(self, backend: SandboxBackend) -> SandboxBackend:
        return presented(SeedBackend(self.engine))

    def unreachable(self) -> SandboxBackend:
        return presented(SeedBackend("main", fails_with=ConnectionRefusedError("engine down")))

    def test_it_was_really_asked(self, backend: SandboxBackend) -> None:
        backend.create(None, "conf-asked")
        assert list(RUNNING[self.engine]) == ["conf-asked"]
