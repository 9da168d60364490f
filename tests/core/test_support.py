"""What stands in the way of `replace: create_first` is said before anything is planned."""

from __future__ import annotations

from dataclasses import replace

from reconciler.core.support import support_diagnostics
from reconciler.model.desired import Port
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
