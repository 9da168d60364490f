"""The conformance suite on every backend that needs no engine of its own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.backends.adapter import presented
from reconciler.backends.apple import AppleBackend
from reconciler.backends.base import SandboxBackend
from reconciler.backends.kubernetes import KubernetesBackend
from reconciler.backends.memory import MemoryBackend
from reconciler.backends.process import ProcessBackend
from reconciler.model.observed import SandboxInfo
from reconciler.testing.backend_conformance import BackendConformance
from tests.backends.fake_container import NEW, OLD, Engine
from tests.backends.processes import ISOLATIONS, pids
from tests.backends.seed_contract import RUNNING, SeedBackend
from tests.support.kubernetes.cluster import running
from tests.support.kubernetes.reach import eventually
from tests.support.running import EngineLike


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


class TestWhereLabelsAreFixedAtCreation(TestMemory):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> SandboxBackend:
        self.options = {"world": str(tmp_path)}
        return EngineLike(**self.options)

    def another(self, backend: SandboxBackend) -> SandboxBackend:
        return EngineLike(**self.options)


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


class TestApple(BackendConformance):
    """On a fake `container`: the real one runs on macOS alone."""

    @pytest.fixture(params=[NEW, OLD])
    def engine(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
        self.fake = Engine(tmp_path / "engine", request.param)
        yield self.fake
        self.fake.close()

    @pytest.fixture
    def backend(self, tmp_path: Path, engine: Engine) -> SandboxBackend:
        self.options = {"binary": engine.binary, "root": str(tmp_path / "kept"), "image": "aio"}
        return AppleBackend(**self.options)

    def another(self, backend: SandboxBackend) -> SandboxBackend:
        return AppleBackend(**self.options)

    def kill(self, backend: SandboxBackend, info: SandboxInfo) -> None:
        assert info.container_name is not None
        self.fake.kill(info.container_name)

    @pytest.fixture(autouse=True)
    def _stopped_system(self, tmp_path: Path) -> None:
        self.stopped = Engine(tmp_path / "stopped")
        self.stopped.set(system="stopped")

    def unreachable(self) -> SandboxBackend:
        return AppleBackend(self.stopped.binary)


class TestKubernetes(BackendConformance):
    """On a fake cluster whose pods are real servers."""

    api = "pod"
    service = "ClusterIP"

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[SandboxBackend]:
        with running() as cluster:
            self.cluster = cluster
            path = cluster.kubeconfig(tmp_path / "kubeconfig")
            self.options: dict[str, Any] = {"kubeconfig": str(path), "api": self.api, "service": self.service}
            self.options |= {"image": "aio", "stop_timeout": 1.0}
            yield KubernetesBackend(**self.options)

    def another(self, backend: SandboxBackend) -> SandboxBackend:
        return KubernetesBackend(**self.options)

    def kill(self, backend: SandboxBackend, info: SandboxInfo) -> None:
        def runs() -> dict[str, Any] | None:
            pod = self.cluster.get("pods", str(info.container_name))
            return pod if pod is not None and pod["status"].get("phase") == "Running" else None

        pod = eventually(runs, f"{info.container_name} runs")
        self.cluster.kubelet.exited(pod["metadata"]["uid"], 137)

    def threads(self) -> set[threading.Thread]:
        """Without those that the fake cluster answers in."""
        return {one for one in super().threads() if "process_request_thread" not in one.name}

    @pytest.fixture(autouse=True)
    def _nobody(self, tmp_path: Path) -> None:
        self.nobody = tmp_path / "nobody"

    def unreachable(self) -> SandboxBackend:
        with running() as gone:
            gone.kubeconfig(self.nobody)
        return KubernetesBackend(str(self.nobody), timeout=2.0)


class TestAgentSandbox(TestKubernetes):
    api = "agent-sandbox"


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
