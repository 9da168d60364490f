"""What a provisioner does wrong, and that we cope: behaviours 22 to 24 of the seed, on one that has its flaws."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler import RemoteSandboxBackend
from reconciler.errors import NotFound, Permanent, Transient
from reconciler.model.desired import Mount, SandboxSpec
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo
from tests.support.provisioner import Provisioner, provisioner, saying


@pytest.fixture
def server() -> Iterator[Provisioner]:
    with provisioner() as made:
        yield made


@pytest.fixture
def backend(server: Provisioner) -> Iterator[RemoteSandboxBackend]:
    made = RemoteSandboxBackend(server.url, "the-key")
    yield made
    made.close()


def test_what_is_sent_to_create(server: Provisioner, backend: RemoteSandboxBackend) -> None:
    spec = SandboxSpec(mounts=(Mount(target="/data", source="/srv/data", read_only=True),))
    backend.create(None, "a", spec=spec)
    backend.create("t-1", "b", [("/h", "/c", False)])
    mount = {"host_path": "/srv/data", "container_path": "/data", "read_only": True}
    assert server.pods["a"].asked == {"sandbox_id": "a", "thread_id": None, "extra_mounts": [mount]}
    assert server.pods["b"].asked == {
        "sandbox_id": "b",
        "thread_id": "t-1",
        "extra_mounts": [{"host_path": "/h", "container_path": "/c", "read_only": False}],
    }


def test_no_malformed_id_or_thread_reaches_the_provisioner(
    server: Provisioner, backend: RemoteSandboxBackend
) -> None:
    for wrong in ("", "A", "-a", "a/../b", "a" * 52, "a\n", "ä"):
        with pytest.raises(Permanent):
            backend.create(None, wrong)
        with pytest.raises(Permanent):
            backend.destroy(SandboxInfo(wrong, ""))
    with pytest.raises(Permanent, match="thread_id"):
        backend.create("no thread/id", "a")
    assert server.requests == []


def test_a_service_without_its_pod_is_dead_and_is_made_anew(
    server: Provisioner, backend: RemoteSandboxBackend
) -> None:
    info = backend.create(None, "a")
    server.kill_pod("a")
    seen = backend.look("a")
    assert seen is not None
    assert (seen.phase, seen.detail) == (Phase.FAILED, "it has a service and no pod")
    assert not backend.is_alive(info)
    assert backend.list_running() == []
    again = backend.create(None, "a")
    assert backend.is_alive(again)
    assert "DELETE" in {method for method, *_ in server.requests}


@pytest.mark.parametrize(("status", "phase"), [("Failed", Phase.FAILED), ("Succeeded", Phase.STOPPED)])
def test_a_pod_that_ended_is_dead_and_is_made_anew(
    server: Provisioner, backend: RemoteSandboxBackend, status: str, phase: Phase
) -> None:
    backend.create(None, "a")
    server.end_pod("a", status)
    assert [seen.phase for seen in backend.observe()] == [phase]
    assert backend.is_alive(backend.create(None, "a"))


def test_a_pod_that_could_not_be_read_once_is_not_dead(
    server: Provisioner, backend: RemoteSandboxBackend
) -> None:
    info = backend.create(None, "a")
    for look in (
        lambda: backend.is_alive(info),
        lambda: backend.observe()[0].phase is Phase.STARTING,
        lambda: backend.create(None, "a") == info,
    ):
        server.unreadable["a"] = 1
        assert look()
    assert "DELETE" not in {method for method, *_ in server.requests}


def test_an_error_is_never_read_as_dead_or_absent(server: Provisioner) -> None:
    backend = RemoteSandboxBackend(server.url, "the-key", sleep=lambda _: None)
    info = backend.create(None, "a")
    for ask in (
        lambda: backend.is_alive(info),
        lambda: backend.discover("a"),
        lambda: backend.look("a"),
        backend.observe,
        backend.list_running,
    ):
        server.next_answers += [saying(500)] * 3
        with pytest.raises(Transient):
            ask()
    assert backend.is_alive(info)


def test_a_deletion_that_fails_in_part_is_asked_again(
    server: Provisioner, backend: RemoteSandboxBackend
) -> None:
    info = backend.create(None, "a")
    server.next_answers.append(saying(500, b'{"detail": "partial cleanup"}'))
    backend.destroy(info)
    assert backend.look("a") is None


def test_a_pod_without_its_service_goes_too(server: Provisioner, backend: RemoteSandboxBackend) -> None:
    info = backend.create(None, "a")
    server.kill_service("a")
    assert backend.look("a") is None
    backend.destroy(info)
    assert server.pods == {}


def test_what_is_still_there_after_its_deletion_is_an_error(server: Provisioner) -> None:
    clock = [0.0]
    backend = RemoteSandboxBackend(
        server.url,
        "the-key",
        monotonic=lambda: clock[0],
        sleep=lambda seconds: clock.__setitem__(0, clock[0] + seconds),
    )
    info = backend.create(None, "a")
    server.delete = lambda sandbox_id: (200, {"ok": True})  # type: ignore[method-assign]
    with pytest.raises(Transient, match="is still there 30 s after its deletion"):
        backend.destroy(info)


def test_one_that_attached_to_a_dying_pod_shows_as_dead_when_that_is_gone(
    server: Provisioner, backend: RemoteSandboxBackend
) -> None:
    backend.destroy(backend.create(None, "a"))
    server.grace = 60.0
    backend.destroy(backend.create(None, "b"))
    attached = backend.create(None, "b")
    server.pods["b"].dying = 0.0
    assert not backend.is_alive(attached)
    assert backend.is_alive(backend.create(None, "b"))


@pytest.mark.parametrize(
    ("entry", "detail"),
    [
        ({"sandbox_id": "x", "sandbox_url": "http://h"}, "its status is None"),
        ({"sandbox_id": "x", "sandbox_url": "http://h", "status": "Odd"}, "its status is 'Odd'"),
        ({"sandbox_id": "x", "sandbox_url": 7, "status": "Running"}, "its URL is no http address"),
        (
            {"sandbox_id": "x", "sandbox_url": "file:///etc", "status": "Running"},
            "its URL is no http address",
        ),
        (
            {"sandbox_id": "x", "sandbox_url": "http://u:p@h", "status": "Pending"},
            "its URL is no http address",
        ),
    ],
)
def test_a_malformed_entry_with_a_name_is_shown_as_unknown(
    server: Provisioner, backend: RemoteSandboxBackend, entry: object, detail: str
) -> None:
    info = backend.create(None, "a")
    server.rotten.append(entry)
    found: dict[str, ObservedSandbox] = {seen.info.sandbox_id: seen for seen in backend.observe()}
    assert found["a"].info == info
    assert found["x"].phase is Phase.UNKNOWN
    assert detail in found["x"].detail


@pytest.mark.parametrize("entry", [None, 7, "a", {}, {"sandbox_id": "../x"}, {"sandbox_id": None}])
def test_a_nameless_entry_makes_the_listing_one_that_nothing_is_decided_on(
    server: Provisioner, backend: RemoteSandboxBackend, entry: object
) -> None:
    backend.create(None, "a")
    server.rotten.append(entry)
    with pytest.raises(Permanent, match="number 2 has no usable id"):
        backend.observe()
    assert backend.discover("a") is not None


def test_an_answer_about_another_sandbox_is_not_believed(
    server: Provisioner, backend: RemoteSandboxBackend
) -> None:
    other = b'{"sandbox_id": "b", "sandbox_url": "http://h", "status": "NotFound"}'
    server.next_answers.append(saying(200, other))
    seen = backend.look("a")
    assert seen is not None
    assert seen.phase is Phase.UNKNOWN


def test_a_creation_that_takes_long_is_waited_for(server: Provisioner, backend: RemoteSandboxBackend) -> None:
    server.slow = 0.4
    assert backend.is_alive(backend.create(None, "a"))
    with pytest.raises(NotFound):
        backend.update(SandboxInfo("absent", ""), SandboxSpec())
