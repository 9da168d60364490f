"""Both generations of the JSON tell the same; any other is refused as a whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.backends.apple.look import observed, parse
from reconciler.errors import Permanent
from reconciler.model.desired import Address, Owner
from reconciler.model.observed import Phase

OWNER = Owner(stack="s=1", lineage="l", address=Address('r["a=b"]'), generation=3, spec_hash="0" * 32)
LABELS = {
    "sandbox-reconciler/managed-by": "reconciler",
    "sandbox-reconciler/sandbox-id": "a1",
    "sandbox-reconciler/stack": "s%3D1",
    "sandbox-reconciler/lineage": "l",
    "sandbox-reconciler/address": 'r["a%3Db"]',
    "sandbox-reconciler/generation": "3",
    "sandbox-reconciler/spec-hash": "0" * 32,
    "sandbox-reconciler/instance": "i1",
    "sandbox-reconciler/image": "aio:1",
    "sandbox-reconciler/ports": '{"http": [8080, true], "web": [80, false]}',
    "sandbox-reconciler/environment": '["LEVEL"]',
    "team": "search%3D",
}
CONFIGURATION: dict[str, Any] = {
    "id": "reconciler-a1",
    "image": {"reference": "docker.io/library/aio:1", "descriptor": {"digest": "sha256:00"}},
    "labels": LABELS,
    "publishedPorts": [
        {"hostAddress": "127.0.0.1", "hostPort": 49200, "containerPort": 8080, "proto": "tcp", "count": 1},
        {"hostAddress": "0.0.0.0", "hostPort": 8000, "containerPort": 79, "proto": "tcp", "count": 3},
    ],
    "resources": {"cpus": 2, "memoryInBytes": 1073741824},
    "mounts": [
        {"type": {"virtiofs": {}}, "source": "/w", "destination": "/mnt/w", "options": ["ro"]},
        {"type": {"tmpfs": {}}, "source": "", "destination": "/t", "options": ["size=1048576"]},
        {"type": {"volume": {"name": "data"}}, "source": "/v/data.img", "destination": "/d", "options": []},
        {"type": {"virtiofs": {}}, "source": "/kept", "destination": "/run/secrets", "options": ["ro"]},
    ],
    "networks": [{"network": "default", "options": {"hostname": "reconciler-a1"}}],
    "initProcess": {
        "environment": ["LEVEL=info=x", "IMAGE_OWN=1", "TOKEN=secret"],
        "user": {"raw": {"userString": "1000"}},
    },
    "readOnly": True,
    "useInit": True,
}
STARTED = "2026-08-01T12:00:00Z"
OLD: dict[str, Any] = {
    "configuration": CONFIGURATION,
    "networks": [],
    "startedDate": 807278400.25,
    "status": "running",
}
NEW: dict[str, Any] = {
    "id": "reconciler-a1",
    "configuration": {**CONFIGURATION, "creationDate": STARTED},
    "status": {"state": "running", "networks": [], "startedDate": STARTED},
}


def one(item: dict[str, Any]) -> Any:
    [container] = parse(json.dumps([item]))
    return observed(container, None)


def test_both_generations_tell_the_same() -> None:
    assert one(OLD) == one(NEW)


@pytest.mark.parametrize("item", [pytest.param(OLD, id="up to 0.12"), pytest.param(NEW, id="since 1.0")])
def test_everything_is_read_back(item: dict[str, Any]) -> None:
    seen = one(item)
    assert seen.info.to_dict() == {
        "sandbox_id": "a1",
        "sandbox_url": "http://127.0.0.1:49200",
        "container_name": "reconciler-a1",
        "container_id": "i1",
        "created_at": 1785585600.0,
        "ports": {"http": 49200, "web": 8001},
    }
    assert (seen.phase, seen.owner, seen.detail) == (Phase.STARTING, OWNER, "")
    assert seen.attributes == {
        "image": "aio:1",
        "labels.team": "search%3D",
        "environment.LEVEL": "info=x",
        "resources.cpu": 2,
        "resources.memory": 1073741824,
        "mounts./mnt/w.source": "/w",
        "mounts./mnt/w.read_only": True,
        "mounts./t.type": "tmpfs",
        "mounts./t.size": 1048576,
        "mounts./t.read_only": False,
        "mounts./d.type": "volume",
        "mounts./d.source": "data",
        "mounts./d.read_only": False,
        "network.mode": "open",
        "network.name": "default",
        "ports.http.container": 8080,
        "ports.http.host": "auto",
        "ports.http.bind": "127.0.0.1",
        "ports.web.container": 80,
        "ports.web.host": 8001,
        "ports.web.bind": "0.0.0.0",
        "security.read_only_root": True,
        "security.init": True,
        "security.user": "1000",
    }


def test_what_is_not_ours_has_no_owner_and_is_told_apart_by_its_age() -> None:
    bare = {**CONFIGURATION, "labels": {"team": "x"}}
    seen = one({**NEW, "configuration": {**bare, "creationDate": STARTED}})
    assert (seen.owner, seen.info.sandbox_id) == (None, "reconciler-a1")
    assert seen.info.container_id == "reconciler-a1@1785585600"
    assert seen.info.sandbox_url == "http://127.0.0.1:49200"
    assert one({**OLD, "configuration": bare}).info.container_id == "reconciler-a1"


@pytest.mark.parametrize(
    ("state", "phase", "detail"),
    [
        ("running", Phase.STARTING, ""),
        ("stopped", Phase.STOPPED, "stopped"),
        ("stopping", Phase.UNKNOWN, "the engine says stopping"),
        ("unknown", Phase.UNKNOWN, "the engine says unknown"),
    ],
)
def test_a_state_is_this_phase(state: str, phase: Phase, detail: str) -> None:
    for item in ({**OLD, "status": state}, {**NEW, "status": {**NEW["status"], "state": state}}):
        seen = one(item)
        assert (seen.phase, seen.detail) == (phase, detail)


def test_one_that_never_started_says_so() -> None:
    assert (
        one({"configuration": CONFIGURATION, "status": {"state": "stopped"}}).detail
        == "created, but never started"
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("ID  IMAGE", id="a table"),
        pytest.param("{}", id="no list"),
        pytest.param("[1]", id="a list of numbers"),
        pytest.param(json.dumps([{"configuration": CONFIGURATION}]), id="no status"),
        pytest.param(json.dumps([{**NEW, "status": 3}]), id="a number for a status"),
        pytest.param(json.dumps([{**NEW, "status": {}}]), id="no state"),
        pytest.param(json.dumps([{**NEW, "status": {"state": "paused"}}]), id="a new state"),
        pytest.param(json.dumps([{"status": "running", "configuration": {}}]), id="no name"),
        pytest.param(
            json.dumps([{**NEW, "status": {"state": "running", "startedDate": [1]}}]), id="a strange date"
        ),
        pytest.param(
            json.dumps([OLD, {**OLD, "configuration": {**CONFIGURATION, "labels": ["a"]}}]),
            id="labels as a list",
        ),
        pytest.param(
            json.dumps([{**OLD, "configuration": {**CONFIGURATION, "publishedPorts": [{"hostPort": 1}]}}]),
            id="ports without the container's",
        ),
        pytest.param(
            json.dumps([OLD]).replace('"hostPort": 49200', '"hostPort": 1e999'),
            id="a port beyond all",
        ),
        pytest.param("[" * 100_000, id="nested too deeply"),
    ],
)
def test_any_other_form_is_refused(text: str) -> None:
    with pytest.raises(Permanent, match="form that is not known") as caught:
        parse(text)
    assert "0.12" in caught.value.hint


def test_a_strange_mount_is_refused_too_not_a_traceback() -> None:
    [container] = parse(json.dumps([{**OLD, "configuration": {**CONFIGURATION, "mounts": [{}]}}]))
    with pytest.raises(Permanent, match="form that is not known"):
        observed(container, None)
