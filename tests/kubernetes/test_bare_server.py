"""An API server without nodes: objects only. What needs a pod that runs is skipped there, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.backends.kubernetes import KubernetesBackend
from reconciler.errors import Conflict
from reconciler.model.desired import Network, NetworkMode, SandboxSpec
from reconciler.model.observed import Phase
from reconciler.testing.backend_conformance import an_owner
from tests.kubernetes.conftest import Ground
from tests.support.cli import Folder, folder


def test_objects_are_made_found_refused_to_others_and_removed(bare: Ground) -> None:
    backend = KubernetesBackend(**bare.options())
    spec = SandboxSpec(owner=an_owner(), network=Network(mode=NetworkMode.ISOLATED))
    info = backend.create(None, "a", spec=spec)
    [seen] = backend.observe()
    assert (seen.info, seen.phase, seen.owner) == (info, Phase.PENDING, spec.owner)
    assert backend.create(None, "a", spec=spec) == info
    with pytest.raises(Conflict):
        backend.create(None, "a", spec=SandboxSpec(owner=an_owner(stack="elsewhere")))
    backend.destroy(info)
    assert bare.listed("pods") == []
    assert bare.listed("services") == []
    backend.close()


def test_what_never_gets_a_node_is_told_and_a_second_plan_knows_it(bare: Ground, tmp_path: Path) -> None:
    here: Folder
    with folder(tmp_path) as here:
        here.write(bare.config("sandboxes: {one: {readiness: {http: /, timeout: 1s}}}\n"))
        here("apply", "--auto-approve", code=5)
        assert len(bare.listed("pods")) == 1
        assert "it never became ready" in here("plan").stdout
        here("destroy", "--auto-approve")
    assert bare.listed("pods") == []


def test_what_needs_nodes_is_skipped_with_that_reason(bare: Ground) -> None:
    with pytest.raises(pytest.skip.Exception, match="no node of this cluster is ready"):
        bare.needs_nodes()
