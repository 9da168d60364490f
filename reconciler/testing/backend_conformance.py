"""What every `SandboxBackend` must do, as a pytest suite. A backend proves itself by a subclass:

    class TestMyBackend(BackendConformance):
        @pytest.fixture
        def backend(self, tmp_path):
            return MyBackend(...)

`another`, `kill` and `unreachable` open further tests where they are overridden. Sandboxes get ids of their own and
are destroyed after each test. Must never look inside a backend: only what the contract promises is asked for.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from reconciler.backends.base import SandboxBackend, Support
from reconciler.errors import BackendError, Conflict, NotFound, Permanent, Unsupported
from reconciler.model.desired import Address, Owner, Resources, SandboxSpec, Secret, SecretRef, fingerprint
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo
from reconciler.testing.event_conformance import EventConformance

_IN_PLACE = {  # fields that some backends change in place, before and after
    "resources.pids": (Resources(pids=200), Resources(pids=400)),
    "resources.memory": (Resources(memory=256 * 2**20), Resources(memory=512 * 2**20)),
    "resources.cpu": (Resources(cpu=0.5), Resources(cpu=1.0)),
}
RUNNING = (Phase.PENDING, Phase.STARTING, Phase.READY, Phase.UNREADY)


def an_owner(address: str = "researcher[0]", **fields: object) -> Owner:
    base = Owner(
        stack="conformance", lineage="lin-1", address=Address(address), generation=1, spec_hash="0" * 32
    )
    return replace(base, **fields)


class BackendConformance(EventConformance):
    """Subclass it, provide the `backend` fixture, and override what else the backend can be asked."""

    @pytest.fixture
    def backend(self) -> SandboxBackend:
        raise NotImplementedError("a conformance class provides its backend")

    def another(self, backend: SandboxBackend) -> SandboxBackend:
        """A second object on the same engine, as another process would have."""
        return backend

    def kill(self, backend: SandboxBackend, info: SandboxInfo) -> None:
        """Make a running sandbox die behind the backend's back."""
        pytest.skip("this backend's sandboxes cannot be made to die from here")

    def unreachable(self) -> SandboxBackend:
        """A backend whose engine cannot be asked."""
        pytest.skip("this backend's engine cannot be made unreachable from here")

    def spec(self, **fields: object) -> SandboxSpec:
        """A specification this backend can hold, with an owner."""
        base = SandboxSpec(labels={"team": "search"}, owner=an_owner())
        return replace(base, **fields)

    @pytest.fixture
    def new_id(self, backend: SandboxBackend) -> Iterator[Callable[[], str]]:
        """Fresh ids; whatever was made under them goes afterwards."""
        given: list[str] = []

        def give() -> str:
            given.append(f"conf-{secrets.token_hex(6)}")
            return given[-1]

        yield give
        for sandbox_id in given:
            backend.destroy(SandboxInfo(sandbox_id, ""))
        backend.close()

    # -- create

    def test_create_gives_a_running_sandbox_under_its_id(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        before, sandbox_id = time.time(), new_id()
        info = backend.create("t-1", sandbox_id, spec=self.spec())
        assert info.sandbox_id == sandbox_id
        assert "://" in info.sandbox_url
        assert backend.is_alive(info)
        assert info.created_at == 0.0 or before - 5 <= info.created_at <= time.time() + 5

    def test_create_without_thread_and_specification_works(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        info = backend.create(None, new_id())
        assert backend.discover(info.sandbox_id) == info

    def test_creating_the_same_again_gives_the_same_object(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        sandbox_id = new_id()
        first = backend.create(None, sandbox_id, spec=self.spec())
        assert self.another(backend).create(None, sandbox_id, spec=self.spec()) == first
        assert [info for info in backend.list_running() if info.sandbox_id == sandbox_id] == [first]

    @pytest.mark.parametrize("protected", [True, False], ids=["protected", "unprotected"])
    def test_an_object_stays_the_same_one_when_only_its_protection_differs(
        self, backend: SandboxBackend, new_id: Callable[[], str], protected: bool
    ) -> None:
        self._needs_labels(backend)
        sandbox_id = new_id()
        first = backend.create(None, sandbox_id, spec=self.spec(owner=an_owner(protected=not protected)))
        again = backend.create(None, sandbox_id, spec=self.spec(owner=an_owner(protected=protected)))
        assert again == first

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({"stack": "elsewhere"}, id="another stack"),
            pytest.param({"lineage": "lin-2"}, id="another lineage"),
            pytest.param({"address": Address("db")}, id="another address"),
            pytest.param({"spec_hash": "1" * 32}, id="the same address with another specification"),
            pytest.param(None, id="nobody"),
        ],
    )
    def test_an_id_taken_by_something_else_is_a_conflict(
        self, backend: SandboxBackend, new_id: Callable[[], str], other: dict[str, object] | None
    ) -> None:
        self._needs_labels(backend)
        sandbox_id = new_id()
        first = backend.create(None, sandbox_id, spec=self.spec())
        owner = None if other is None else an_owner(**other)  # type: ignore[arg-type]
        with pytest.raises(Conflict):
            backend.create(None, sandbox_id, spec=self.spec(owner=owner))
        assert backend.discover(sandbox_id) == first

    def test_concurrent_creates_of_one_id_make_one_object(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        sandbox_id, others = new_id(), [self.another(backend) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda other: other.create(None, sandbox_id, spec=self.spec()), others))
        assert all(info == made[0] for info in made)
        assert backend.discover(sandbox_id) == made[0]

    def test_parallel_creates_of_different_ids_get_addresses_of_their_own(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        ids = [new_id() for _ in range(6)]
        with ThreadPoolExecutor(6) as pool:
            made = list(pool.map(lambda sandbox_id: backend.create(None, sandbox_id), ids))
        assert sorted(info.sandbox_id for info in made) == sorted(ids)
        assert len({info.sandbox_url for info in made}) == len(ids)

    @pytest.mark.parametrize("sandbox_id", ["", "../x", "UPPER", "-a", "a/b", "a" * 52, "a\n"])
    def test_a_malformed_id_is_refused(self, backend: SandboxBackend, sandbox_id: str) -> None:
        self._needs_labels(backend)
        with pytest.raises(Permanent):
            backend.create(None, sandbox_id)

    # -- destroy

    def test_destroyed_is_gone_from_every_look(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        info = backend.create(None, new_id(), spec=self.spec())
        backend.destroy(info)
        other = self.another(backend)
        assert other.look(info.sandbox_id) is None
        assert other.discover(info.sandbox_id) is None
        assert not other.is_alive(info)
        assert info.sandbox_id not in _ids(other)

    def test_destroying_what_is_absent_is_success(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        backend.destroy(SandboxInfo(new_id(), ""))

    def test_concurrent_destroys_all_succeed(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        info = backend.create(None, new_id())
        others = [self.another(backend) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda other: other.destroy(info), others))
        assert backend.look(info.sandbox_id) is None

    def test_created_again_after_destroy_is_another_object(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        sandbox_id = new_id()
        first = backend.create(None, sandbox_id, spec=self.spec())
        backend.destroy(first)
        second = backend.create(None, sandbox_id, spec=self.spec())
        assert backend.is_alive(second)
        assert second.container_id is None or second.container_id != first.container_id

    # -- look

    def test_absent_is_none_and_not_alive(self, backend: SandboxBackend, new_id: Callable[[], str]) -> None:
        sandbox_id = new_id()
        assert backend.discover(sandbox_id) is None
        assert backend.look(sandbox_id) is None
        assert not backend.is_alive(SandboxInfo(sandbox_id, ""))

    def test_every_look_tells_the_same(self, backend: SandboxBackend, new_id: Callable[[], str]) -> None:
        made = {info.sandbox_id: info for info in (backend.create(None, new_id()) for _ in range(3))}
        other = self.another(backend)
        listed = {info.sandbox_id: info for info in other.list_running()}
        observed = {seen.info.sandbox_id: seen for seen in other.observe()}
        for sandbox_id, info in made.items():
            assert listed[sandbox_id] == info
            assert other.discover(sandbox_id) == info
            assert observed[sandbox_id].info == info
            assert observed[sandbox_id].phase in RUNNING
            look = other.look(sandbox_id)
            assert look is not None
            assert (look.info, look.owner) == (info, observed[sandbox_id].owner)

    def test_labels_of_ownership_come_back_as_they_were(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        self._needs_labels(backend)
        owners = [
            an_owner('region["eu"]', generation=7, spec_hash=fingerprint({"image": "ü"})),
            an_owner("a-b_c.d[12]", stack="stack with spaces", lineage="0f" * 16),
            an_owner("kept", protected=True),
        ]
        for owner in owners:
            info = backend.create(None, new_id(), spec=self.spec(owner=owner))
            assert _seen(self.another(backend), info.sandbox_id).owner == owner

    def test_what_carries_no_labels_has_no_owner(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        info = backend.create(None, new_id())
        assert _seen(backend, info.sandbox_id).owner is None

    def test_what_is_read_back_is_what_was_declared(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        spec = self.spec(thread_id="t-9")
        info = backend.create(spec.thread_id, new_id(), spec=spec)
        live, declared = _seen(backend, info.sandbox_id).attributes or {}, spec.canonical()
        assert {path: live[path] for path in live if path in declared} == {
            path: declared[path] for path in live if path in declared
        }

    def test_looking_changes_nothing(self, backend: SandboxBackend, new_id: Callable[[], str]) -> None:
        info = backend.create(None, new_id(), spec=self.spec())
        before = _seen(backend, info.sandbox_id)
        for _ in range(3):
            backend.observe()
            backend.list_running()
            backend.look(info.sandbox_id)
            backend.discover(info.sandbox_id)
            backend.is_alive(info)
            backend.check()
        after = _seen(backend, info.sandbox_id)
        assert (after.info, after.owner, after.attributes) == (before.info, before.owner, before.attributes)

    def test_an_engine_that_cannot_be_asked_is_an_error_never_an_empty_listing(self) -> None:
        backend = self.unreachable()
        for look in (backend.observe, backend.list_running):
            with pytest.raises(BackendError):
                look()
        for ask in (backend.discover, backend.look):
            with pytest.raises(BackendError):
                ask("conf-unreachable")
        with pytest.raises(BackendError):
            backend.is_alive(SandboxInfo("conf-unreachable", "http://127.0.0.1:1"))
        assert not all(well for _, well, _ in backend.check())

    def test_a_dead_one_is_shown_as_dead_until_it_is_destroyed(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        info = backend.create(None, new_id(), spec=self.spec())
        self.kill(backend, info)
        seen = _eventually_dead(backend, info.sandbox_id)
        assert seen.owner == (an_owner() if backend.capabilities.owns else None)
        assert seen.detail
        assert not backend.is_alive(info)
        assert backend.discover(info.sandbox_id) is None
        assert info.sandbox_id not in {running.sandbox_id for running in backend.list_running()}
        backend.destroy(info)
        assert backend.look(info.sandbox_id) is None

    def test_creating_over_a_dead_one_of_ours_gives_a_running_one(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        sandbox_id = new_id()
        self.kill(backend, backend.create(None, sandbox_id, spec=self.spec()))
        _eventually_dead(backend, sandbox_id)
        info = backend.create(None, sandbox_id, spec=self.spec())
        assert backend.is_alive(info)
        assert [seen.info for seen in backend.observe() if seen.info.sandbox_id == sandbox_id] == [info]

    # -- optional abilities, as declared

    def test_update_renews_the_labels_of_ownership_where_it_can_or_is_unsupported(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        info = backend.create(None, new_id(), spec=self.spec())
        renewed = an_owner("renamed", generation=2, spec_hash="2" * 32)
        if not backend.capabilities.updatable:
            with pytest.raises(Unsupported):
                backend.update(info, self.spec(owner=renewed))
            return
        assert backend.update(info, self.spec(owner=renewed)).sandbox_id == info.sandbox_id
        seen = _seen(self.another(backend), info.sandbox_id)
        able = backend.capabilities
        assert seen.owner == (None if not able.owns else renewed if able.relabels else an_owner())
        assert seen.info.container_id == info.container_id
        with pytest.raises(NotFound):
            backend.update(SandboxInfo(new_id(), ""), self.spec())

    def test_update_lifts_a_protection_and_puts_one_on_where_labels_can_be_renewed(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        self._needs_labels(backend)
        if not (backend.capabilities.updatable and backend.capabilities.relabels):
            pytest.skip("this backend's labels are fixed at creation")
        owner = an_owner(protected=True)
        info = backend.create(None, new_id(), spec=self.spec(owner=owner))
        for renewed in (replace(owner, protected=False), owner):
            backend.update(info, self.spec(owner=renewed))
            assert _seen(self.another(backend), info.sandbox_id).owner == renewed

    def test_what_was_changed_in_place_shows_on_the_same_object(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        able = backend.capabilities
        paths = [path for path in _IN_PLACE if able.updates_in_place(path)]
        path = next((path for path in paths if able.support(path) is Support.ENFORCED), None)
        if path is None:
            pytest.skip("none of the fields known here changes in place")
        before, after = _IN_PLACE[path]
        info = backend.create(None, new_id(), spec=self.spec(resources=before))
        wanted = self.spec(resources=after)
        backend.update(info, wanted)
        [seen] = self.another(backend).look_closely([info.sandbox_id])
        assert seen.attributes is not None
        assert seen.attributes[path] == wanted.canonical()[path]
        assert (seen.info.container_id, seen.owner) == (
            info.container_id,
            an_owner() if backend.capabilities.owns else None,
        )

    def test_a_dead_one_that_is_restarted_runs_again_and_is_the_same_one(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        self._needs_restarts(backend)
        owner = an_owner(protected=True) if backend.capabilities.owns else None
        spec = self.spec(owner=owner)
        info = backend.create(None, new_id(), spec=spec)
        before = _seen(backend, info.sandbox_id)
        self.kill(backend, info)
        _eventually_dead(backend, info.sandbox_id)
        again = self.another(backend).restart(info, spec)
        seen = _seen(backend, info.sandbox_id)
        assert backend.is_alive(again)
        assert seen.phase in RUNNING
        assert seen.info == again == backend.discover(info.sandbox_id)
        assert (again.sandbox_id, again.container_id) == (info.sandbox_id, info.container_id)
        assert set(again.ports) == set(info.ports)
        assert seen.owner == owner
        assert seen.attributes == before.attributes
        if backend.capabilities.exec:
            assert backend.exec(again, ["echo", "back"]).stdout == "back\n"

    def test_a_running_one_that_is_restarted_answers_again(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        self._needs_restarts(backend)
        info = backend.create(None, new_id(), spec=self.spec())
        again = backend.restart(info, self.spec())
        assert again.container_id == info.container_id
        assert backend.is_alive(again)
        assert [seen.info for seen in backend.observe() if seen.info.sandbox_id == info.sandbox_id] == [again]
        if backend.capabilities.exec:
            assert backend.exec(again, ["echo", "back"]).stdout == "back\n"

    def test_what_a_sandbox_held_is_there_after_a_restart(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        self._needs_restarts(backend)
        info = backend.create(None, new_id(), spec=self.spec())
        write = ["sh", "-c", "echo held > held"]
        if not backend.capabilities.exec or backend.exec(info, write).exit_code == 127:
            pytest.skip("there is no shell in this backend's sandboxes")
        self.kill(backend, info)
        _eventually_dead(backend, info.sandbox_id)
        for _ in range(2):  # a dead one, then a running one
            info = backend.restart(info, self.spec())
            assert backend.exec(info, ["cat", "held"]).stdout == "held\n"

    def test_restarting_what_is_absent_is_an_error(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        info = SandboxInfo(new_id(), "")
        with pytest.raises(NotFound if backend.capabilities.restarts else Unsupported):
            backend.restart(info, self.spec())
        assert backend.look(info.sandbox_id) is None

    def test_exec_runs_a_command_where_it_is_declared(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        info = backend.create(None, new_id(), spec=self.spec())
        if not backend.capabilities.exec:
            with pytest.raises(Unsupported):
                backend.exec(info, ["true"])
            return
        done = backend.exec(info, ["echo", "two words", "$HOME"])
        assert (done.exit_code, done.stdout) == (0, "two words $HOME\n")
        assert backend.exec(info, ["false"]).exit_code == 1
        assert backend.exec(info, ["no-such-command-here"]).exit_code == 127
        with pytest.raises(NotFound):
            backend.exec(SandboxInfo(new_id(), ""), ["true"])

    def test_logs_are_lines_where_they_are_declared(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        info = backend.create(None, new_id(), spec=self.spec())
        if not backend.capabilities.logs:
            with pytest.raises(Unsupported):
                list(backend.logs(info))
            return
        lines = list(backend.logs(info))
        assert not any("\n" in line for line in lines)
        assert list(backend.logs(info, tail=0)) == []
        assert len(list(backend.logs(info, tail=1))) <= 1

    def test_a_secret_is_nowhere_to_be_read(self, backend: SandboxBackend, new_id: Callable[[], str]) -> None:
        canary = f"canary-{secrets.token_hex(8)}"
        ref = SecretRef(
            source="env TOKEN", kind="env", target=("TOKEN",), digest="d" * 32, value=Secret(canary)
        )
        info = backend.create(None, new_id(), spec=self.spec(secrets={"TOKEN": ref}))
        told = [
            repr(backend.observe()),
            repr(backend.look(info.sandbox_id)),
            repr(info),
            repr(info.to_dict()),
        ]
        if backend.capabilities.logs:
            told += backend.logs(info)
        assert not [text for text in told if canary in text]

    def test_check_says_what_it_looked_at(self, backend: SandboxBackend) -> None:
        for name, well, detail in backend.check():
            assert isinstance(well, bool)
            assert name
            assert detail

    def _needs_labels(self, backend: SandboxBackend) -> None:
        if not backend.capabilities.owns:
            pytest.skip("this backend cannot label its objects")

    def _needs_restarts(self, backend: SandboxBackend) -> None:
        if not backend.capabilities.restarts:
            pytest.skip("this backend cannot restart what is there")


def _ids(backend: SandboxBackend) -> set[str]:
    return {info.sandbox_id for info in backend.list_running()} | {
        seen.info.sandbox_id for seen in backend.observe()
    }


def _seen(backend: SandboxBackend, sandbox_id: str) -> ObservedSandbox:
    """As the listing shows it; a look at it alone must not know less."""
    found = [seen for seen in backend.observe() if seen.info.sandbox_id == sandbox_id]
    assert len(found) == 1
    return found[0]


def _eventually_dead(backend: SandboxBackend, sandbox_id: str, seconds: float = 10.0) -> ObservedSandbox:
    deadline = time.monotonic() + seconds
    while not (seen := _seen(backend, sandbox_id)).phase.is_dead:
        assert time.monotonic() < deadline, f"{sandbox_id} was killed and still shows as {seen.phase}"
        time.sleep(0.01)
    return seen
