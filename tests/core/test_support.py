"""What a backend cannot hold, or not together, is said before anything is planned."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from reconciler.core.support import support_diagnostics
from reconciler.model.desired import Desired, Network, NetworkMode, Port, ProbeKind, Readiness
from reconciler.model.diagnostic import Severity
from reconciler.model.position import Position
from tests.support.build import ABLE, desired, wanted

WHERE = {
    "lifecycle.replace": Position("sandboxes.yaml", 9, 18),
    "ports.http.host": Position("sandboxes.yaml", 7, 40),
}
FIXED = (Port(name="http", container=8080, host=9000), Port(name="sql", container=5432))


def test_a_fixed_port_of_the_host_cannot_be_held_twice() -> None:
    config = desired(wanted("a", ports=FIXED, create_first=True, where=WHERE))
    [found] = support_diagnostics(config, {"main": ABLE})
    assert (found.severity, found.code) == (Severity.ERROR, "unsupported")
    assert "port 9000 of the host (`http`)" in found.summary
    assert "host: auto" in found.fix
    assert "destroy_first" in found.fix
    assert str(found.position) == "sandboxes.yaml:7:40"
    assert [str(place) for _, place in found.related] == ["sandboxes.yaml:9:18"]


def test_going_without_is_no_way_out() -> None:
    config = desired(wanted("a", ports=FIXED, create_first=True, unsupported_warn=True))
    assert [d.severity for d in support_diagnostics(config, {"main": ABLE})] == [Severity.ERROR]


def test_a_backend_that_cannot_label_cannot_have_two_at_once() -> None:
    config = desired(wanted("a", create_first=True, where=WHERE))
    [found] = support_diagnostics(config, {"main": replace(ABLE, owns=False)})
    assert (found.severity, found.code) == (Severity.ERROR, "unsupported")
    assert "cannot label" in found.summary
    assert str(found.position) == "sandboxes.yaml:9:18"


def test_destroying_first_takes_any_port_and_any_backend() -> None:
    config = desired(wanted("a", ports=FIXED))
    assert support_diagnostics(config, {"main": replace(ABLE, owns=False)}) == ()


def test_replicas_that_share_a_specification_are_told_once_each_way() -> None:
    one = wanted("a[0]", ports=FIXED, create_first=True)
    other = replace(wanted("b", ports=FIXED), spec=one.spec)
    config = desired(other, one, replace(one, address=wanted("a[1]").address))
    assert len(support_diagnostics(config, {"main": ABLE})) == 1


SEALED = replace(ABLE, seals_isolated=True, probes=frozenset(ProbeKind))


def _isolated(kind: ProbeKind, *ports: Port) -> Desired:
    where = {
        "network.mode": Position("sandboxes.yaml", 5, 20),
        "ports.http.container": Position("sandboxes.yaml", 6, 30),
        "readiness": Position("sandboxes.yaml", 7, 18),
    }
    network, readiness = Network(mode=NetworkMode.ISOLATED), Readiness(kind=kind)
    return desired(wanted("a", network=network, readiness=readiness, ports=ports, where=where))


def test_a_port_of_what_nothing_reaches_is_refused() -> None:
    [found] = support_diagnostics(_isolated(ProbeKind.NONE, FIXED[0]), {"main": SEALED})
    assert (found.severity, str(found.position)) == (Severity.ERROR, "sandboxes.yaml:6:30")
    assert "port `http` leads nowhere" in found.summary
    assert [str(place) for _, place in found.related] == ["sandboxes.yaml:5:20"]


@pytest.mark.parametrize("kind", [ProbeKind.HTTP, ProbeKind.TCP])
def test_a_probe_through_no_network_is_refused(kind: ProbeKind) -> None:
    [found] = support_diagnostics(_isolated(kind), {"main": SEALED})
    assert (found.severity, str(found.position)) == (Severity.ERROR, "sandboxes.yaml:7:18")
    assert f"probe by {kind} cannot succeed" in found.summary


@pytest.mark.parametrize("kind", [ProbeKind.EXEC, ProbeKind.NONE])
def test_a_probe_from_within_is_fine(kind: ProbeKind) -> None:
    assert support_diagnostics(_isolated(kind), {"main": SEALED}) == ()


def test_where_isolation_leaves_a_way_in_ports_and_probes_are_fine() -> None:
    able = replace(SEALED, seals_isolated=False)
    assert support_diagnostics(_isolated(ProbeKind.HTTP, FIXED[0]), {"main": able}) == ()
