"""Requests that are lost, answers that are lost, runs that are killed at any request: nothing is doubled, and nothing lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.core.fold import fold_all
from reconciler.errors import LeaseLost, StoreError
from reconciler.model.state import State
from reconciler.stores.base import Store
from reconciler.stores.kubernetes import KubernetesStore, index
from reconciler.stores.kubernetes.lease import Timing
from reconciler.stores.sealing import PLAIN, Sealer
from reconciler.testing.store_conformance import a_state, created
from tests.stores.clusters import NAME, a_store
from tests.stores.contention import contend
from tests.stores.kept import KeptInCluster
from tests.stores.places import Clock, a_key, a_sealer
from tests.stores.sealed_anywhere import CHANGES
from tests.stores.test_kubernetes_store import large
from tests.stores.whole_run import a_whole_run
from tests.support.kubernetes.cluster import Cluster, running
from tests.support.kubernetes.hostile import answer_then_cut, hang_up, refusal
from tests.support.kubernetes.http import Handler, Request


class Wire:
    """Counts the requests of a client, from 1. `lose_request` and `lose_answer` are the number of the one that never arrives, or
    whose answer is thrown away; from `dies_at` on nothing arrives, as from a client that was killed; `fail` is the number of
    one that is answered with 500, once."""

    def __init__(self, cluster: Cluster) -> None:
        self.requests = self.lose_request = self.lose_answer = self.dies_at = self.fail = 0
        cluster.server.misbehaviours.append(self)

    def expect(self, **faults: int) -> None:
        self.requests = self.lose_request = self.lose_answer = self.dies_at = self.fail = 0
        for name, number in faults.items():
            setattr(self, name, number)

    def __call__(self, handler: Handler, request: Request) -> bool:
        self.requests += 1
        if self.requests == self.lose_request or (self.dies_at and self.requests >= self.dies_at):
            hang_up(handler, request)
        elif self.requests == self.lose_answer:
            answer_then_cut(handler, request)
        elif self.requests == self.fail:
            refusal(500, "etcdserver: request timed out")(handler, request)
        else:
            return False
        return True


_OPENED: list[KubernetesStore] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Their connections, before the collector finds them open."""
    yield
    while _OPENED:
        _OPENED.pop().close()


def a_fast_store(kubeconfig: Path, sealer: Sealer = PLAIN, **options: object) -> KubernetesStore:
    """It waits for nobody: its clock is its own."""
    clock = Clock()
    timing = Timing(renew=1e6, now=clock.now, monotonic=clock.now, sleep=clock.sleep)
    _OPENED.append(a_store(kubeconfig, sealer=sealer, timing=timing, **options))
    return _OPENED[-1]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running(nodes=False) as made:
        yield made


@pytest.mark.parametrize("fault", ["lose_request", "lose_answer", "fail"])
def test_whichever_request_or_answer_is_lost_the_run_goes_on_and_everything_is_there_once(
    cluster: Cluster, tmp_path: Path, fault: str
) -> None:
    # Sealed twice, the same entry is not the same text: an answer that was lost must not lead to that.
    sealer = a_sealer(a_key()) if fault == "lose_answer" else PLAIN
    wire = Wire(cluster)
    number, points = 1, 0
    while points == 0 or number <= points:
        space = f"n{number}"
        cluster.make("v1", "Namespace", space)
        kubeconfig = cluster.kubeconfig(tmp_path / space)
        store = a_fast_store(kubeconfig, sealer, namespace=space)
        wire.expect(**{fault: number})
        expected = a_whole_run(store)
        points = max(points, wire.requests)
        wire.expect()
        direct = a_fast_store(kubeconfig, sealer, namespace=space)
        assert direct.read() == expected, f"after {fault} {number}"
        assert direct.lock_info() is None
        store.close()
        number += 1
    assert points > 30


def _left(store: Store) -> tuple[State, bytes | None]:
    """What a killed run left."""
    key = store.secret_key(create=True)
    with store.lock("apply") as lease:
        base = store.write(lease, store.write(lease, a_state("old")))
        store.append(lease, created("new"))
    return fold_all(base, created("new")), key


def _names(cluster: Cluster) -> set[str]:
    with cluster.storage.lock:
        secrets = next(resource for resource in cluster.known() if resource.kind == "Secret")
        return {found["metadata"]["name"] for found in cluster.storage.list(secrets)}


def _freed(store: Store) -> None:
    with suppress(StoreError):
        store.force_unlock(getattr(store.lock_info(), "id", ""))


@pytest.mark.parametrize("change", ["none", *CHANGES])
def test_a_run_that_is_killed_at_any_request_loses_nothing_and_leaves_nothing_for_long(
    tmp_path: Path, change: str
) -> None:
    """Also one that changes keys. Before it there is a state with versions, a key and the journal of a killed run; after it the
    state is the one before or the one it wrote, and the next run sweeps away what it left over."""
    before, during, after = CHANGES.get(change, (PLAIN, PLAIN, PLAIN))
    request, killed = 0, True
    while killed:
        request += 1
        home = tmp_path / str(request)
        home.mkdir()
        kept = KeptInCluster(home)
        try:
            state, key = _left(a_fast_store(kept.kubeconfig, before))
            wire = Wire(kept.cluster)
            wire.expect(dies_at=request)
            killed = _dies(a_fast_store(kept.kubeconfig, during), wire, request)
            wire.expect()
            store = a_fast_store(kept.kubeconfig, during)
            left = store.read()
            assert left is not None
            assert left.sandboxes == state.sandboxes, f"killed at request {request}"
            assert left.serial in (state.serial, state.serial + 1)
            assert store.secret_key(create=False) == key
            assert not [version for version in store.history() if version.damage]
            _freed(store)
            with store.lock("apply") as lease:
                store.write(lease, left)
            only = a_fast_store(kept.kubeconfig, after)
            assert only.secret_key(create=False) == key
            serials = [only.version(version.serial).serial for version in only.history()]
            assert serials == list(range(left.serial + 1, 0, -1))
            named = kept.head().index.names()
            assert _names(kept.cluster) == {NAME, f"{NAME}.key", *named}, "something is left over"
        finally:
            kept.close()
    assert request > 12


def _dies(store: Store, wire: Wire, request: int) -> bool:
    """Whether a run that is cut off at that request ends early."""
    try:
        with store.lock("apply") as lease:
            state = store.read()
            assert state is not None
            store.append(lease, created("new"))
            store.write(lease, state)
    except StoreError:
        return True
    finally:
        store.close()
    return wire.requests >= request


def test_a_write_of_several_parts_that_is_killed_between_any_two_is_not_there_at_all(
    cluster: Cluster, tmp_path: Path
) -> None:
    kubeconfig = cluster.kubeconfig(tmp_path / "kubeconfig")
    wire = Wire(cluster)
    store = a_fast_store(kubeconfig)
    with store.lock("apply") as lease:
        current = store.write(lease, a_state("a"))
    request, killed, orphans = 0, True, 0
    while killed:
        request += 1
        store = a_fast_store(kubeconfig, versions=2)
        lease = store.lock("apply")
        wire.expect(dies_at=request)
        with suppress(StoreError):
            current = store.write(lease, large(2000, serial=current.serial))
        killed = wire.requests >= request
        wire.expect()
        other = a_fast_store(kubeconfig, versions=2)
        found = other.read()
        assert found is not None
        if found.serial == current.serial:
            assert found == current
        else:
            assert found.sandboxes == large(2000).sandboxes  # it was killed after the switch
            current = found
        named = index.head_of(cluster.get("secrets", NAME) or {}, place="", stack="research").index.names()
        orphans = max(orphans, len(_names(cluster) - named - {NAME}))
        _freed(other)
        with other.lock("apply") as second:
            current = other.write(second, a_state("a", serial=current.serial))
        named = index.head_of(cluster.get("secrets", NAME) or {}, place="", stack="research").index.names()
        assert _names(cluster) == {NAME, *named}
    assert request > 6
    assert orphans >= 3, "no kill left any part behind, so nothing was tested"


def test_a_server_that_is_away_for_a_while_costs_a_pause(cluster: Cluster, tmp_path: Path) -> None:
    store = a_fast_store(cluster.kubeconfig(tmp_path / "kubeconfig"))
    with store.lock("apply") as lease:
        base = store.write(lease, a_state())
        cluster.misbehave(hang_up, times=3)
        store.append(lease, created("a"))
        cluster.server.drop_connections()
        cluster.misbehave(refusal(500, "etcdserver: leader changed"), times=3)
        written = store.write(lease, fold_all(base, created("a")))
    assert store.read() == written


def test_a_server_that_does_not_come_back_is_told_when_the_time_is_up(
    cluster: Cluster, tmp_path: Path
) -> None:
    store = a_fast_store(cluster.kubeconfig(tmp_path / "kubeconfig"))
    lease = store.lock("apply")
    base = store.write(lease, a_state())
    store.append(lease, created("a"))
    cluster.misbehave(hang_up)
    with pytest.raises(StoreError, match=f"cannot read {NAME} in namespace default") as refused:
        store.append(lease, created("b"))
    assert not isinstance(refused.value, LeaseLost)
    lease.release()
    cluster.behave()
    assert store.read() == fold_all(base, created("a"))
    assert store.lock_info() is not None  # nobody could be told that it was given back


@pytest.mark.slow
@pytest.mark.no_cover
def test_eight_processes_take_turns_and_lose_nothing(cluster: Cluster, tmp_path: Path) -> None:
    contest = contend(
        str(cluster.kubeconfig(tmp_path / "kubeconfig")),
        processes=8,
        rounds=4,
        open_by="tests.stores.clusters:a_contender",
        log=tmp_path / "log",
    )
    contest.demand_order()
    assert "32 turns, 0 overlaps, 0 lost updates, counter 32" in contest.text()
    assert _names(cluster) == {
        NAME,
        *index.head_of(cluster.get("secrets", NAME) or {}, place="", stack="research").index.names(),
    }
