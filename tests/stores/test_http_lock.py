"""The lock of the http store: who is dead and who is not, waiting, looking, and servers that tell little or nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from reconciler.errors import LockHeld, StoreError
from reconciler.stores.base import LockInfo
from reconciler.stores.http.holder import told
from tests.stores.http_places import a_host, a_store, paced
from tests.stores.places import Clock, Machine
from tests.support.states import HangUp, Reply, Request, StateServer, keeping


@pytest.fixture(params=["plain", "gitlab"])
def server(request: pytest.FixtureRequest) -> Iterator[StateServer]:
    with keeping(request.param) as made:
        yield made


@pytest.mark.parametrize(
    ("happens", "broken"),
    [
        ("it runs", False),
        ("it is gone", True),
        ("another has its pid", True),
        ("nobody can tell", False),
    ],
)
def test_a_holder_on_this_machine_is_broken_as_soon_as_it_is_gone_and_never_before(
    server: StateServer, happens: str, broken: bool
) -> None:
    machine = Machine()
    dead = a_store(server, host=machine.process(1)).lock("apply")
    machine.processes[1] = {
        "it runs": "t1",
        "it is gone": None,
        "another has its pid": "t2",
        "nobody can tell": OSError("no"),
    }[happens]
    other = a_store(server, host=machine.process(2))
    heard: list[LockInfo] = []
    if broken:
        other.lock("destroy", on_broken=heard.append).release()
        assert [info.id for info in heard] == [dead.info.id]
    else:
        with pytest.raises(LockHeld):
            other.lock("destroy", on_broken=heard.append)
        assert heard == []


@pytest.mark.parametrize(
    "there",
    [Machine("there"), Machine(boot="boot-2"), Machine(boot="")],
    ids=["another machine", "the same before it was started again", "a machine that cannot tell its boot"],
)
def test_a_holder_elsewhere_is_broken_by_people_alone(server: StateServer, there: Machine) -> None:
    held = a_store(server, host=there.process(1)).lock("apply")
    here = a_store(server, host=Machine().process(2))
    with pytest.raises(LockHeld) as refused:
        here.lock("apply", timeout=3.0)
    assert f"reconciler force-unlock {held.info.id}" in refused.value.hint
    here.force_unlock(held.info.id)
    here.lock("apply").release()


def test_what_gitlab_echoes_of_our_own_request_is_not_taken_for_the_holder() -> None:
    with keeping("gitlab") as server:
        held = a_store(server, host=Machine("there").process(77)).lock("destroy")
        with pytest.raises(LockHeld) as refused:
            a_store(server, host=Machine("here").process(2)).lock("apply")
        assert refused.value.holder == "root (pid 77)"
        assert "2026-11-26 03:00:00 UTC" in refused.value.message
        seen = a_store(server).lock_info()
        assert seen is not None
        assert (seen.id, seen.who, seen.operation, seen.host) == (held.info.id, "root", "", "")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lock_whose_answer_got_lost_is_found_to_be_ours(server: StateServer, when: str) -> None:
    def hang_up_once(request: Request) -> Reply | None:
        if request.body and len(server.requests) == 1:
            raise HangUp
        return None

    setattr(server, when, hang_up_once)
    store = a_store(server)
    with store.lock("apply") as lease:
        lease.check()
    assert server.kept().lock is None


def test_waiting_asks_again_and_again_and_ends_in_time(server: StateServer) -> None:
    clock = Clock()
    a_store(server).lock("apply")
    waits: list[LockInfo] = []
    with pytest.raises(LockHeld):
        a_store(server, pace=paced(clock, poll=2.0)).lock("apply", timeout=5.0, on_wait=waits.append)
    assert clock.slept == [2.0, 2.0, 1.0]
    assert len(waits) == 1


def test_looking_leaves_the_lock_as_it_was(server: StateServer) -> None:
    store = a_store(server)
    assert store.lock_info() is None
    assert server.kept().lock is None
    with store.lock("apply") as lease:
        assert (store.lock_info() or lease.info).id == lease.info.id
        lease.check()


def test_who_only_looks_is_waited_for_without_being_asked_to(server: StateServer) -> None:
    """`lock show` has to take the lock for a moment: an apply beside it must not end with "locked"."""
    looked = threading.Event()

    def slowly(request: Request) -> Reply | None:
        if not looked.is_set() and b"look-" in request.body and request.method in ("UNLOCK", "DELETE"):
            looked.set()
            freed.wait(10)
        return None

    freed = threading.Event()
    server.before = slowly
    looking = threading.Thread(target=a_store(server).lock_info)
    looking.start()
    assert looked.wait(10)
    clock = Clock()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        freed.set()
        looking.join(10)

    pace = paced(clock)
    pace = replace(pace, sleep=sleep)
    a_store(server, pace=pace).lock("apply").release()
    assert clock.slept


@pytest.mark.parametrize(
    ("body", "who"),
    [
        (b"", "somebody whom the server does not name"),
        (b"null", "somebody whom the server does not name"),
        (b"<html>", "somebody whom the server does not name"),
        (b"[" * 100_000, "somebody whom the server does not name"),
        (b'{"ID": 7, "Who": ["x"], "Created": 9e999, "Info": {}}', "somebody whom the server does not name"),
        (b'{"ID": "t", "Who": "ann@box", "Operation": "OperationTypeApply"}', "ann@box (OperationTypeApply)"),
        (json.dumps({"ID": "t", "Who": "x" * 9999}).encode(), "x" * 255),
    ],
    ids=["nothing", "null", "a page", "brackets", "wrong types", "terraform", "endless"],
)
def test_whatever_a_server_says_of_the_holder_somebody_holds_it(body: bytes, who: str) -> None:
    assert told(body).holder == who


def test_a_server_that_does_not_name_the_holder_can_still_be_unlocked_by_id() -> None:
    with keeping("plain") as server:
        held = a_store(server, host=Machine("there").process(1)).lock("apply")
        server.before = lambda request: Reply(423) if request.method == "LOCK" else None
        store = a_store(server)
        with pytest.raises(LockHeld, match="does not name") as refused:
            store.lock("apply")
        assert "look at the server" in refused.value.hint
        held.check()  # nobody can tell, so it is left to the writes
        with pytest.raises(StoreError, match="not the one of id wrong"):
            store.force_unlock("wrong")
        store.force_unlock(held.info.id)
        assert server.kept().lock is None


def test_terraforms_lock_on_the_same_server_is_respected() -> None:
    with keeping("plain") as server:
        server.kept().lock = {
            "ID": "7f0c7ab1", "Operation": "OperationTypeApply", "Info": "", "Who": "ann@box", "Version": "1.11.0",
            "Created": "2026-11-26T03:44:59.123456789Z", "Path": "",
        }  # fmt: skip
        with pytest.raises(LockHeld, match=r"ann@box .OperationTypeApply. since 2026-11-26 03:44:59 UTC"):
            a_store(server).lock("apply")


def test_doctor_finds_a_server_that_gives_the_lock_to_two() -> None:
    with keeping("plain") as server:
        server.before = lambda request: Reply(200) if "LOCK" in request.method else None
        assert ("lock", False) in [(what, well) for what, well, _ in a_store(server).check()]
    with keeping("gitlab") as server:
        assert ("lock", True, "free") in a_store(server).check()
        assert server.kept().lock is None


def test_two_processes_that_break_one_dead_holder_do_not_both_hold_the_lock(server: StateServer) -> None:
    machine = Machine()
    a_store(server, host=machine.process(1)).lock("apply")
    machine.processes[1] = None
    first, second = (a_store(server, host=a_host(machine, pid)) for pid in (2, 3))
    overtaken: list[object] = []

    def overtake(request: Request) -> Reply | None:
        if request.method in ("UNLOCK", "DELETE") and not overtaken:
            overtaken.append(None)
            overtaken.append(second.lock("apply"))
        return None

    server.before = overtake
    with pytest.raises(LockHeld):
        first.lock("apply")
    assert len(overtaken) == 2
