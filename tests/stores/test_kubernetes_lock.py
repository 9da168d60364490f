"""The lock in a cluster: a Lease that is renewed, given up, taken over by who watched it, and fenced against who comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.errors import LeaseLost, LockHeld, StoreError
from reconciler.stores.base import LockInfo
from reconciler.stores.kubernetes import KubernetesStore
from reconciler.stores.kubernetes.lease import KubernetesLease, Timing
from reconciler.testing.store_conformance import a_state, created
from tests.stores.clusters import NAME, a_store
from tests.stores.places import NOW, Clock, Machine
from tests.support.kubernetes.cluster import Cluster, running
from tests.support.kubernetes.hostile import hang_up, refusal

LEASES = "leases.coordination.k8s.io"
HELD = "state.sandbox-reconciler/holder"


class Home:
    """One namespace, and stores of it on machines that are pretended: each with a clock of its own."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.kubeconfig = cluster.kubeconfig(folder / "kubeconfig")

    def open(self, machine: str = "here", clock: Clock | None = None, **timing: Any) -> KubernetesStore:
        clock = clock or Clock()
        still = Timing(now=clock.now, monotonic=clock.now, sleep=clock.sleep, renew=1e6)
        host = Machine(machine, boot=f"boot of {machine}").process(7)
        return a_store(self.kubeconfig, host=host, timing=replace(still, **timing), timeout=2.0)

    def lease(self) -> dict[str, Any]:
        found = self.cluster.get(LEASES, NAME)
        assert found is not None
        return found

    def change(self, change: Callable[[Any], None]) -> None:
        self.cluster.change(LEASES, NAME, change)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with running(nodes=False) as cluster:
        yield Home(cluster, tmp_path)


def taken(store: KubernetesStore, operation: str = "apply", **options: Any) -> KubernetesLease:
    lease = store.lock(operation, **options)
    assert isinstance(lease, KubernetesLease)
    return lease


def test_kubectl_shows_who_holds_it_and_since_when(home: Home) -> None:
    lease = taken(home.open())
    found = home.lease()
    assert found["spec"] == {
        "holderIdentity": f"here_{lease.info.id}",
        "leaseDurationSeconds": 30,
        "acquireTime": "2027-01-15T08:00:00.000000Z",
        "renewTime": "2027-01-15T08:00:00.000000Z",
        "leaseTransitions": 1,
    }
    assert found["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "sandbox-reconciler",
        "state.sandbox-reconciler/store": NAME,
        "state.sandbox-reconciler/stack": "research",
        "state.sandbox-reconciler/part": "lock",
    }
    assert (lease.info.since, lease.info.expires, lease.info.fence) == (NOW, NOW + 30, 1)
    lease.release()
    assert home.lease()["spec"] == {
        "leaseDurationSeconds": 1,
        "acquireTime": "2027-01-15T08:00:00.000000Z",
        "renewTime": "2027-01-15T08:00:00.000000Z",
        "leaseTransitions": 1,
    }
    assert HELD not in home.lease()["metadata"].get("annotations", {})


def test_a_holder_elsewhere_is_taken_over_once_it_has_not_moved_for_its_duration_by_our_clock(
    home: Home,
) -> None:
    """Whatever their clock says: here it is a year behind."""
    theirs = Clock()
    theirs.time -= 365 * 86400.0
    dead = taken(home.open("elsewhere", theirs))
    ours = Clock()
    store = home.open("here", ours)
    with pytest.raises(LockHeld, match=r"its lease ran out \d+ s ago") as refused:
        store.lock("apply", timeout=29.0)
    assert "`--lock-timeout 60s`" in refused.value.hint
    assert f"force-unlock {dead.info.id}" in refused.value.hint
    broken: list[LockInfo] = []
    lease = taken(store, timeout=60.0, on_broken=broken.append)  # 29 of its 30 s were watched already
    assert ours.time == pytest.approx(NOW + 30.0, abs=0.6)
    assert broken == [dead.info]
    assert lease.info.fence == 2
    with pytest.raises(LeaseLost, match=r"ann@here \(pid 7, apply\) holds it now"):
        dead.check()


def test_who_renews_keeps_it_whatever_clocks_say(home: Home) -> None:
    """The holder's clock stands still in the past, and its lease is renewed all the same."""
    theirs, ours = Clock(), Clock()
    theirs.time -= 1e6
    holder = taken(home.open("elsewhere", theirs))

    def renewing(seconds: float) -> None:
        ours.sleep(seconds)
        theirs.time += 1e-3
        assert holder.beat()

    store = home.open("here", ours, sleep=renewing, poll=10.0)
    with pytest.raises(LockHeld):
        store.lock("apply", timeout=300.0)
    assert ours.time >= NOW + 300.0
    holder.check()


def test_two_who_look_from_time_to_time_need_no_timeout(home: Home) -> None:
    """As a watch does: it takes the lock or leaves it, round after round, and remembers what it saw."""
    taken(home.open("elsewhere"))
    clock = Clock()
    store = home.open("here", clock)
    for _ in range(3):
        with pytest.raises(LockHeld):
            store.lock("watch")
        clock.time += 10.0
    assert taken(store, "watch").info.fence == 2


def test_a_process_of_this_machine_that_is_gone_is_broken_at_once(home: Home) -> None:
    machine, clock = Machine(), Clock()
    still = Timing(now=clock.now, monotonic=clock.now, sleep=clock.sleep, renew=1e6)
    first = a_store(home.kubeconfig, host=machine.process(7), timing=still)
    second = a_store(home.kubeconfig, host=machine.process(8), timing=still)
    taken(first)
    with pytest.raises(LockHeld):
        second.lock("apply")
    machine.processes[7] = OSError("nobody can tell")
    with pytest.raises(LockHeld):
        second.lock("apply")
    machine.processes[7] = None
    assert taken(second).info.fence == 2


def test_the_heartbeat_renews_and_says_when_it_was_taken_away(home: Home) -> None:
    clock = Clock()
    store = home.open(clock=clock)
    lease = taken(store)
    clock.time += 12.0
    assert lease.beat()
    assert home.lease()["spec"]["renewTime"] == "2027-01-15T08:00:12.000000Z"
    assert home.lease()["spec"]["acquireTime"] == "2027-01-15T08:00:00.000000Z"
    home.open().force_unlock(lease.info.id)
    assert not lease.beat()
    assert "nobody holds it now" in str(lease.lost)
    with pytest.raises(LeaseLost):
        lease.check()


def test_a_server_that_does_not_answer_is_no_loss_of_the_lock_until_the_deadline(home: Home) -> None:
    clock = Clock()
    lease = taken(home.open(clock=clock, deadline=10.0))
    home.cluster.misbehave(hang_up, "leases")
    assert lease.beat()
    clock.time += 10.0
    assert not lease.beat()
    assert "could not be renewed for 1" in str(lease.lost)
    home.cluster.behave()
    with pytest.raises(LeaseLost):
        lease.check()
    lease.release()
    assert home.lease()["spec"]["holderIdentity"], "who lost it does not free it"


def test_labels_and_annotations_of_others_stay_and_keep_nobody_from_renewing(home: Home) -> None:
    lease = taken(home.open())
    home.change(lambda found: found["metadata"].setdefault("labels", {}).update(team="a"))
    home.change(lambda found: found["metadata"]["annotations"].update(note="b"))
    assert lease.beat()
    lease.release()
    again = taken(home.open())
    assert home.lease()["metadata"]["labels"]["team"] == "a"
    assert home.lease()["metadata"]["annotations"]["note"] == "b"
    assert again.info.fence == 2


def test_a_lease_that_somebody_removed_gives_no_old_holder_a_way_in(home: Home) -> None:
    """Its numbers begin again; the state remembers how far they were."""
    store = home.open()
    for _ in range(4):
        taken(store).release()
    old = taken(store)
    base = store.write(old, a_state("a"))
    with home.cluster.storage.lock:
        home.cluster.storage.remove((LEASES, "default", NAME))
    other = home.open("there")
    lease = taken(other)
    assert lease.info.fence == 6
    assert home.lease()["spec"]["leaseTransitions"] == 6
    for attempt in (lambda: store.append(old, created("b")), lambda: store.write(old, base), old.check):
        with pytest.raises(LeaseLost):
            attempt()
    assert other.write(lease, base).serial == 2


def test_who_takes_the_lock_shuts_the_one_before_out_before_it_reads(home: Home) -> None:
    """Even where the old holder cannot see the Lease: its write is refused by the head that it would replace."""
    store, other = home.open(), home.open("there")
    old = taken(store)
    base = store.write(old, a_state("a"))
    before = home.lease()
    home.open().force_unlock(old.info.id)
    lease = taken(other)
    with home.cluster.storage.lock:  # what it sees of the Lease is old
        now = home.cluster.storage.get((LEASES, "default", NAME))
        assert now is not None
        home.cluster.storage.put((LEASES, "default", NAME), before)
    old.check()
    for attempt in (lambda: store.append(old, created("b")), lambda: store.write(old, base)):
        with pytest.raises(LeaseLost):
            attempt()
    with home.cluster.storage.lock:
        home.cluster.storage.put((LEASES, "default", NAME), now)
    assert other.read() == base
    other.append(lease, created("c"))


def test_force_unlock_stops_a_holder_before_anybody_else_takes_the_lock(home: Home) -> None:
    store = home.open()
    lease = taken(store)
    base = store.write(lease, a_state("a"))
    home.open("there").force_unlock(lease.info.id)
    with pytest.raises(LeaseLost, match="nobody holds it now"):
        store.append(lease, created("b"))
    assert store.read() == base


def test_a_lease_of_somebody_else_is_told_as_far_as_it_goes(home: Home) -> None:
    home.cluster.make(
        "coordination.k8s.io/v1",
        "Lease",
        NAME,
        spec={"holderIdentity": "a controller", "leaseDurationSeconds": 15, "renewTime": "nonsense"},
    )
    store = home.open()
    held = store.lock_info()
    assert held is not None
    assert (held.id, held.who, held.pid, held.fence) == ("a controller", "a controller", 0, 0)
    with pytest.raises(LockHeld, match="is locked by a controller"):
        store.lock("apply")
    assert taken(store, timeout=20.0).info.fence == 1


def test_a_claim_that_fails_gives_the_lock_back(home: Home) -> None:
    store = home.open()
    home.cluster.misbehave(
        refusal(403, "secrets is forbidden: User cannot create"), "secrets", method="POST|PUT"
    )
    with pytest.raises(StoreError, match="forbidden") as refused:
        store.lock("apply")
    assert "docs/stores.md has one" in refused.value.hint
    assert store.lock_info() is None


def test_a_process_that_was_stopped_and_wakes_up_writes_nothing_more(home: Home) -> None:
    """A real one: it took the lock, another broke it and wrote, and what it then tries is refused."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.stores.clusters", str(home.kubeconfig)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lock_id = process.stdout.readline().strip()
        store = a_store(home.kubeconfig)
        store.force_unlock(lock_id)
        with store.lock("apply") as lease:
            told = process.stdout.read()
            state = store.read()
            assert state is not None
            store.append(lease, created("ours"))
    assert told.count("LeaseLost") == 2, told
    after = store.read()
    assert after is not None
    assert set(after.sandboxes) == {"ours"}
    assert json.loads(json.dumps(home.lease()["spec"]["leaseTransitions"])) == 2
