"""What the engine's JSON means: phases, connection details, what went astray."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.backends.containers import labels_of
from reconciler.backends.docker.look import Reader
from reconciler.backends.docker.request import NETWORK, PORTS
from reconciler.model.observed import ObservedSandbox, Phase
from reconciler.testing.backend_conformance import an_owner

READER = Reader(url_host=None, prefix="reconciler", reaches_containers=True)


def listed(reader: Reader = READER, **fields: Any) -> ObservedSandbox:
    item: dict[str, Any] = {
        "Id": "c0ffee",
        "Names": ["/reconciler-a-1"],
        "Created": 1_700_000_000,
        "Labels": {**labels_of("a-1", an_owner(), None), PORTS: "http=8080,api=9000", NETWORK: "bridge"},
        "State": "running",
        "Status": "Up 2 seconds",
        "Ports": [{"IP": "127.0.0.1", "PrivatePort": 8080, "PublicPort": 32768, "Type": "tcp"}],
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
    }
    return reader.listed({**item, **fields})


@pytest.mark.parametrize(
    ("state", "status", "phase", "detail"),
    [
        ("running", "Up 2 seconds", Phase.STARTING, ""),
        ("running", "Up 2 seconds (unhealthy)", Phase.UNREADY, "the health check of its image fails"),
        ("paused", "Up 2 seconds (Paused)", Phase.PAUSED, ""),
        ("exited", "Exited (0) 3 minutes ago", Phase.STOPPED, "exit code 0"),
        ("exited", "Exited (137) 3 minutes ago", Phase.FAILED, "exit code 137 (SIGKILL)"),
        ("created", "Created", Phase.FAILED, "created, but never started"),
        ("restarting", "Restarting (1) 3 s ago", Phase.UNREADY, "it ends and is started again and again"),
        ("removing", "Removal In Progress", Phase.UNKNOWN, "the engine is removing it"),
        ("dead", "Dead", Phase.FAILED, "the engine could not remove it"),
        ("hibernating", "", Phase.UNKNOWN, "the engine calls it 'hibernating'"),
    ],
)
def test_each_state_has_its_phase(state: str, status: str, phase: Phase, detail: str) -> None:
    seen = listed(State=state, Status=status)
    assert (seen.phase, seen.detail) == (phase, detail)


def test_ports_go_by_their_names() -> None:
    ports = [
        {"IP": "127.0.0.1", "PrivatePort": 8080, "PublicPort": 1, "Type": "tcp"},
        {"IP": "127.0.0.1", "PrivatePort": 9000, "PublicPort": 2, "Type": "tcp"},
        {"PrivatePort": 9999, "Type": "tcp"},
    ]
    info = listed(Ports=ports).info
    assert info.ports == {"http": 1, "api": 2}
    assert info.sandbox_url == "http://127.0.0.1:1"


def test_two_names_of_one_port_are_told_apart_by_what_was_asked_for() -> None:
    labels = {**labels_of("a-1", an_owner(), None), PORTS: "http=8080,one=9@127.0.0.1,two=9@127.0.0.2#5"}
    ports = [
        {"IP": address, "PrivatePort": number, "PublicPort": public, "Type": "tcp"}
        for address, number, public in (
            ("127.0.0.2", 9, 5),
            ("127.0.0.1", 9, 32769),
            ("127.0.0.1", 8080, 32768),
        )
    ]
    assert listed(Labels=labels, Ports=ports).info.ports == {"http": 32768, "one": 32769, "two": 5}
    assert listed(Labels=labels, Ports=ports[::-1]).info.ports == {"http": 32768, "one": 32769, "two": 5}


def test_a_port_on_every_address_is_reached_by_the_older_family() -> None:
    ports = [
        {"IP": address, "PrivatePort": 8080, "PublicPort": public, "Type": "tcp"}
        for address, public in (("::", 32769), ("0.0.0.0", 32768))
    ]
    assert listed(Ports=ports).info.sandbox_url == "http://127.0.0.1:32768"


@pytest.mark.parametrize(
    ("address", "host", "url"),
    [
        pytest.param("127.0.0.1", None, "http://127.0.0.1:32768", id="the bound address"),
        pytest.param("0.0.0.0", None, "http://127.0.0.1:32768", id="all addresses are reached by loopback"),
        pytest.param("::1", None, "http://[::1]:32768", id="version 6"),
        pytest.param(
            "127.0.0.1", "host.docker.internal", "http://host.docker.internal:32768", id="from inside"
        ),
    ],
)
def test_the_url_is_where_a_client_reaches_it(address: str, host: str | None, url: str) -> None:
    reader = Reader(url_host=host, prefix="reconciler", reaches_containers=True)
    ports = [{"IP": address, "PrivatePort": 8080, "PublicPort": 32768, "Type": "tcp"}]
    assert listed(reader, Ports=ports).info.sandbox_url == url


def test_without_a_published_port_it_is_reached_at_its_own_address() -> None:
    assert listed(Ports=[]).info.sandbox_url == "http://172.17.0.2:8080"
    elsewhere = Reader(url_host=None, prefix="reconciler", reaches_containers=False)
    assert listed(elsewhere, Ports=[]).info.sandbox_url == ""


@pytest.mark.parametrize(
    ("fields", "astray"),
    [
        pytest.param({}, {}, id="as it was made"),
        pytest.param({"Names": ["/other"]}, {"container.name": "other"}, id="renamed"),
        pytest.param({"State": "paused"}, {"container.paused": True}, id="paused"),
        pytest.param(
            {"NetworkSettings": {"Networks": {}}}, {"container.networks": "none"}, id="taken off its network"
        ),
        pytest.param(
            {"NetworkSettings": {"Networks": {"bridge": {}, "x": {}}}},
            {"container.networks": "bridge, x"},
            id="put on another network too",
        ),
        pytest.param(
            {"State": "exited", "Status": "Exited (1)", "Names": ["/other"]}, {}, id="a dead one is dead"
        ),
    ],
)
def test_what_went_astray_is_told(fields: dict[str, Any], astray: dict[str, object]) -> None:
    assert {found.path: found.live for found in listed(**fields).astray} == astray


@pytest.mark.parametrize("missing", ["stack", "lineage", "address", "generation", "spec-hash", "managed-by"])
def test_labels_that_are_not_complete_make_no_owner(missing: str) -> None:
    labels = {**labels_of("a-1", an_owner(), None)}
    del labels[f"sandbox-reconciler/{missing}"]
    assert listed(Labels=labels).owner is None


def test_what_others_made_goes_by_its_own_name() -> None:
    seen = listed(Names=["/deer-flow-sandbox-ab12"], Labels={})
    assert (seen.info.sandbox_id, seen.owner, seen.astray) == ("deer-flow-sandbox-ab12", None, ())
