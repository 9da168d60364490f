"""Terraform itself on the server that the tests use: what passes here speaks the protocol, and not only ours.

It needs no provider: `terraform_data` is built in.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.errors import LockHeld, StateCorrupt
from tests.stores.http_places import a_store
from tests.support.required import required
from tests.support.states import StateServer, keeping

pytestmark = required("terraform", strict=False)  # no package of Debian, so CI does not promise it


@pytest.fixture(params=["plain", "gitlab"])
def server(request: pytest.FixtureRequest) -> Iterator[StateServer]:
    with keeping(request.param) as made:
        yield made


def terraform(server: StateServer, folder: Path, *args: str, code: int = 0) -> str:
    options = server.options()
    backend = {
        "address": options["url"],
        "lock_address": options.get("lock_url", options["url"]),
        "unlock_address": options.get("lock_url", options["url"]),
        "lock_method": options.get("lock_method", "LOCK"),
        "unlock_method": options.get("unlock_method", "UNLOCK"),
        "retry_max": 0,
    }
    document = {
        "terraform": {"backend": {"http": backend}},
        "resource": {"terraform_data": {"x": {"input": "1"}}},
    }
    (folder / "main.tf.json").write_text(json.dumps(document))
    done = subprocess.run(
        ["terraform", *args, "-no-color"],
        cwd=folder,
        env={**os.environ, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_terraform_applies_on_it_and_is_kept_out_by_our_lock(server: StateServer, tmp_path: Path) -> None:
    terraform(server, tmp_path, "init", "-input=false")
    terraform(server, tmp_path, "apply", "-auto-approve", "-input=false")
    body = json.loads(server.kept().body or b"")
    assert body["version"] == 4
    assert body["resources"][0]["type"] == "terraform_data"
    assert server.kept().lock is None

    store = a_store(server)
    with pytest.raises(StateCorrupt, match="no state"):
        store.read()
    with store.lock("apply") as lease:
        told = terraform(server, tmp_path, "apply", "-auto-approve", "-input=false", code=1)
        assert "Error acquiring the state lock" in told
        assert lease.info.id in told
        terraform(server, tmp_path, "plan", "-lock=false", "-input=false")
    terraform(server, tmp_path, "destroy", "-auto-approve", "-input=false")


def test_our_apply_is_kept_out_by_terraforms_lock(server: StateServer) -> None:
    server.kept().lock = {"ID": "3c0f", "Who": "ann@box", "Operation": "OperationTypeApply"}
    with pytest.raises(LockHeld, match="ann@box"):
        a_store(server).lock("apply")
