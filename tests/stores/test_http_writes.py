"""Writes of the http store: durable when they return, never twice, never over somebody else's, whatever gets lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count

import pytest

from reconciler.core.fold import fold_all
from reconciler.errors import LeaseLost, StateCorrupt, StoreError
from reconciler.model.state import State
from reconciler.stores import snapshot
from reconciler.stores.http.holder import Myself
from reconciler.testing.store_conformance import a_state, created
from tests.stores.http_places import a_host, a_store, paced
from tests.stores.places import Clock
from tests.support.states import HangUp, Meddle, Reply, Request, StateServer, keeping

PAGE = Reply(200, b"<html>log in</html>", {"Content-Type": "text/html; charset=utf-8"})


@pytest.fixture(params=["plain", "gitlab"])
def server(request: pytest.FixtureRequest) -> Iterator[StateServer]:
    with keeping(request.param) as made:
        yield made


def serials(server: StateServer) -> list[int]:
    return [json.loads(body)["serial"] for _, body in server.kept().writes]


def once(method: str, answer: Reply | type[HangUp]) -> Meddle:
    """The first request of that method that comes from now on is answered like this."""
    left = count()

    def meddle(request: Request) -> Reply | None:
        if is_update(request, method) and next(left) == 0:
            if isinstance(answer, Reply):
                return answer
            raise answer
        return None

    return meddle


def always(method: str, answer: Reply | type[HangUp]) -> Meddle:
    def meddle(request: Request) -> Reply | None:
        if not is_update(request, method):
            return None
        if isinstance(answer, Reply):
            return answer
        raise answer

    return meddle


def is_update(request: Request, method: str) -> bool:
    return request.method == method and not request.path.endswith("/lock")


def test_every_append_is_one_write_under_the_locks_id_one_serial_higher(server: StateServer) -> None:
    store = a_store(server)
    with store.lock("apply") as lease:
        base = store.write(lease, a_state())
        for name in ("a", "b"):
            store.append(lease, created(name))
        done = store.write(lease, fold_all(base, [*created("a"), *created("b")]))
    assert serials(server) == [1, 2, 3, 4]
    assert {lock_id for lock_id, _ in server.kept().writes} == {lease.info.id}
    assert done.serial == 4
    assert store.read() == done


def test_what_changes_nothing_in_the_state_is_written_all_the_same_only_when_there_is_something(
    server: StateServer,
) -> None:
    store = a_store(server)
    with store.lock("apply") as lease:
        store.write(lease, a_state())
        store.append(lease, [])
    assert serials(server) == [1]


@pytest.mark.parametrize(
    ("when", "answer"),
    [
        ("before", HangUp),
        ("after", HangUp),
        ("before", Reply(500)),
        ("after", Reply(502)),
        ("before", Reply(503, headers={"Retry-After": "3"})),
        ("before", Reply(429, headers={"Retry-After": "3"})),
        ("before", PAGE),
        ("after", PAGE),
    ],
    ids=[
        "the request was lost",
        "the answer was lost",
        "it failed before the write",
        "it failed after the write",
        "it is down for a moment",
        "it is asked too often",
        "a log-in page instead of a write",
        "a log-in page after the write",
    ],
)
def test_a_write_of_which_nobody_knows_is_looked_for_and_done_once(
    server: StateServer, when: str, answer: Reply | type[HangUp]
) -> None:
    clock = Clock()
    store = a_store(server, pace=paced(clock))
    with store.lock("apply") as lease:
        base = store.write(lease, a_state())
        setattr(server, when, once("POST", answer))
        store.append(lease, created("a"))
        assert (
            snapshot.decode(server.kept().body or b"", place="", hint="").sandboxes
            == fold_all(base, created("a")).sandboxes
        )
        store.append(lease, created("b"))
    assert serials(server) == [1, 2, 3]
    found = store.read()
    assert found is not None
    assert found.sandboxes == fold_all(base, [*created("a"), *created("b")]).sandboxes
    if isinstance(answer, Reply) and "Retry-After" in answer.headers:
        assert clock.slept == [3.0]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_that_stays_away_stops_the_run_and_what_it_took_is_kept(
    server: StateServer, when: str
) -> None:
    store = a_store(server)
    with store.lock("apply") as lease:
        base = store.write(lease, a_state())
        setattr(server, when, always("POST", HangUp))
        if when == "after":  # it took the write, and cannot say so
            server.before = lambda request: _down_after_a_write(server, request)
        with pytest.raises(
            StoreError, match=r"cannot write the state|did not answer|cannot be reached|no HTTP"
        ) as told:
            store.append(lease, created("a"))
        assert told.value.hint
        server.before = server.after = lambda request: None
        done = store.write(lease, fold_all(base, created("a")))
    assert store.read() == done
    assert serials(server) == ([1, 2] if when == "before" else [1, 2, 3])


def _down_after_a_write(server: StateServer, request: Request) -> Reply | None:
    if len(server.kept().writes) > 1 and request.method == "GET":
        raise HangUp
    return None


def test_a_write_that_arrives_late_is_ours_and_the_next_goes_on_from_it() -> None:
    """GitLab takes a serial once: the one that was late has it, and what was sent instead gets the next."""
    with keeping("gitlab") as server:
        store = a_store(server)
        with store.lock("apply") as lease:
            base = store.write(lease, a_state())
            late: list[Request] = []

            def hold_back(request: Request) -> Reply | None:
                if is_update(request, "POST") and len(late) < 10:
                    late.append(request)
                    raise HangUp
                return None

            server.before = hold_back
            with pytest.raises(StoreError):
                store.append(lease, created("a"))
            server.before = lambda request: None
            sent = json.loads(late[0].body)
            server.answer("POST", f"{late[0].path}?ID={lease.info.id}", {}, late[0].body)
            done = store.write(lease, fold_all(base, [*created("a"), *created("b")]))
        assert (sent["serial"], done.serial) == (2, 3)
        assert store.read() == done


def test_a_serial_that_was_used_before_is_passed_over() -> None:
    with keeping("gitlab") as server:
        store = a_store(server)
        with store.lock("apply") as lease:
            base = store.write(lease, a_state())
            server.kept().versions[2] = b"{}"  # a version that somebody put back from
            assert store.write(lease, base).serial == 3


def test_a_server_that_refuses_every_write_is_told_so(server: StateServer) -> None:
    store = a_store(server)
    with store.lock("apply") as lease:
        server.before = always("POST", Reply(422))
        with pytest.raises(StoreError, match=r"refuses each write.*422") as told:
            store.write(lease, a_state())
    assert "log" in told.value.hint
    assert not isinstance(told.value, LeaseLost)


def test_nothing_is_written_over_a_state_that_somebody_else_wrote_meanwhile() -> None:
    """A careless server looks at no lock: the serial shows it."""
    with keeping("careless") as server:
        store = a_store(server)
        with store.lock("apply") as lease:
            base = store.write(lease, a_state())
            other = snapshot.encode(State(stack="research", lineage="a-lineage", serial=7))
            server.kept().body = other
            for attempt in (
                lambda: store.append(lease, created("a")),
                lambda: store.write(lease, base),
            ):
                with pytest.raises(LeaseLost, match=r"serial 7.*wrote 1 last") as told:
                    attempt()
                assert "refuse writes under another lock's id" in told.value.hint
            assert server.kept().body == other


def test_an_old_answer_and_a_removed_state_stop_the_run(server: StateServer) -> None:
    store = a_store(server)
    with store.lock("apply") as lease:
        first = store.write(lease, a_state())
        old = server.kept().body
        store.append(lease, created("a"))
        server.kept().body = old
        with pytest.raises(StoreError, match=r"serial 1 after it took serial 2") as told:
            store.write(lease, first)
        assert "cache" in told.value.hint
        server.kept().body = None
        with pytest.raises(StoreError, match="was removed while this run held its lock"):
            store.append(lease, created("b"))


def test_a_server_that_writes_the_same_state_in_another_way_is_understood(server: StateServer) -> None:
    store = a_store(server)
    with store.lock("apply") as lease:
        base = store.write(lease, a_state("a"))
        server.kept().body = json.dumps(json.loads(server.kept().body or b"")).encode()
        store.append(lease, created("b"))
    found = store.read()
    assert found is not None
    assert found.sandboxes == fold_all(base, created("b")).sandboxes


def test_a_broken_lock_is_told_by_the_server_and_nothing_more_is_written(server: StateServer) -> None:
    store, other = a_store(server), a_store(server)
    lease = store.lock("apply")
    base = store.write(lease, a_state())
    other.force_unlock(lease.info.id)
    with pytest.raises(LeaseLost, match="nobody holds it now"):
        store.append(lease, created("a"))
    with other.lock("destroy") as second:
        with pytest.raises(LeaseLost, match="holds it now"):
            store.write(lease, base)
        lease.release()
        second.check()
    assert serials(server) == [1]


def test_the_state_of_another_stack_or_of_another_program_is_not_touched(server: StateServer) -> None:
    store = a_store(server)
    for body, says in (
        (
            snapshot.encode(State(stack="elsewhere", lineage="x", serial=1)),
            "holds the state of stack 'elsewhere'",
        ),
        (b'{"version": 4, "terraform_version": "1.11.0", "serial": 3}', "no state"),
        (b"never json", "line 1"),
    ):
        server.kept().body = body
        with pytest.raises(StateCorrupt, match=says) as told:
            store.read()
        assert "`url`" in told.value.hint
        with store.lock("apply") as lease, pytest.raises(StateCorrupt):
            store.write(lease, a_state())
        assert server.kept().body == body


def test_an_empty_answer_is_no_state_yet(server: StateServer) -> None:
    server.before = lambda request: Reply(200) if request.method == "GET" else None
    assert a_store(server).read() is None


def test_the_versions_are_the_servers_and_only_the_current_one_can_be_had(server: StateServer) -> None:
    store = a_store(server)
    with store.lock("apply") as lease:
        first = store.write(lease, a_state("a"))
        second = store.write(lease, first)
    assert store.version(2) == second
    [there] = store.history()
    assert (there.serial, there.sandboxes, there.current) == (2, 1, True)
    assert there.size == len(server.kept().body or b"")
    with pytest.raises(StoreError, match="no version of serial 1") as told:
        store.version(1)
    assert "fetched there" in told.value.hint


def test_the_key_of_secrets_comes_from_the_environment_alone(server: StateServer) -> None:
    assert a_store(server).secret_key(create=False) is None
    with pytest.raises(StoreError, match="no place for the key") as told:
        a_store(server).secret_key(create=True)
    assert "RECONCILER_STATE_KEY" in told.value.hint
    made = a_store(server, environ={"RECONCILER_STATE_KEY": "correct horse"})
    assert made.secret_key(create=True) == made.secret_key(create=False) is not None
    with pytest.raises(StoreError, match="RECONCILER_STATE_KEY is set, but empty"):
        a_store(server, environ={"RECONCILER_STATE_KEY": ""}).secret_key(create=False)


def test_what_is_sent_is_what_terraform_sends(server: StateServer) -> None:
    store = a_store(server)
    with store.lock("apply") as lease:
        store.write(lease, a_state())
    taken, written = [r for r in server.requests if r.method in ("LOCK", "POST")][:2]
    assert set(json.loads(taken.body)) == {"ID", "Operation", "Info", "Who", "Version", "Created", "Path"}
    assert written.query == {"ID": lease.info.id}
    for request in (taken, written):
        assert request.headers["content-type"] == "application/json"
        assert len(request.headers["content-md5"]) == 24
    assert len(lease.info.id) <= 255
    assert not Myself(host=a_host(), stack="x").outlived(lease.info.id)
