"""The conformance suite on the cluster at hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.backends.base import SandboxBackend
from reconciler.backends.kubernetes import KubernetesBackend
from reconciler.model.observed import SandboxInfo
from reconciler.testing.backend_conformance import BackendConformance
from tests.kubernetes.conftest import Ground
from tests.support.kubernetes.reach import eventually


class TestPods(BackendConformance):
    api = "pod"

    @pytest.fixture
    def backend(self, ground: Ground, tmp_path: Path) -> SandboxBackend:
        self.ground = ground
        self.given: dict[str, Any] = ground.options(api=self.api)
        return KubernetesBackend(**self.given)

    def another(self, backend: SandboxBackend) -> SandboxBackend:
        return KubernetesBackend(**self.given)

    def kill(self, backend: SandboxBackend, info: SandboxInfo) -> None:
        self.ground.needs_nodes()
        where = self.ground.reach.path("pods", str(info.container_name))

        def runs() -> bool:
            found = self.ground.reach.ask("GET", where)
            return found.status_code == 200 and found.json()["status"].get("phase") == "Running"

        eventually(runs, f"{info.container_name} runs", 60)
        self.ground.end(str(info.container_name))

    def test_exec_runs_a_command_where_it_is_declared(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        self.ground.needs_nodes()
        super().test_exec_runs_a_command_where_it_is_declared(backend, new_id)

    def threads(self) -> set[threading.Thread]:
        """Without those that the fake cluster answers in."""
        return {one for one in super().threads() if "process_request_thread" not in one.name}

    @pytest.fixture(autouse=True)
    def _nobody(self, tmp_path: Path) -> None:
        self.nobody = tmp_path / "nobody"

    def unreachable(self) -> SandboxBackend:
        text = (
            "clusters: [{name: x, cluster: {server: 'http://127.0.0.1:9'}}]\nusers: [{name: x, user: {}}]\n"
        )
        text += "contexts: [{name: x, context: {cluster: x, user: x}}]\ncurrent-context: x\napiVersion: v1\nkind: Config\n"
        self.nobody.write_text(text)
        return KubernetesBackend(str(self.nobody), timeout=2.0)


class TestSandboxes(TestPods):
    api = "agent-sandbox"

    @pytest.fixture
    def backend(self, ground: Ground, tmp_path: Path) -> SandboxBackend:
        ground.needs_agents()
        self.ground = ground
        self.given = ground.options(api=self.api)
        return KubernetesBackend(**self.given)
