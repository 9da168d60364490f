"""The lock of one stack, or the leadership of its watches: a `coordination.k8s.io/v1` Lease, as `kubectl get lease` shows it.

Its spec says who holds it and when that was last renewed, an annotation what else is known of the holder. `leaseTransitions`
grows with each taking and is the fence. Whether it may be taken is `decision`'s to say; every change names the version that
it was decided on, so of two that decide at once one is refused. It stays when it is given back, without a holder.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from reconciler.errors import LeaseLost, StoreError
from reconciler.stores.base import Lease, LockInfo, lease_lost, lock_held, nothing_to_unlock, other_lock
from reconciler.stores.host import Host
from reconciler.stores.kubernetes.decision import Answer, Decision, Record, Sight, decide, sighted
from reconciler.stores.kubernetes.index import PREFIX
from reconciler.stores.kubernetes.objects import LEASE, Json, Moved, Objects

_Heard = Callable[[LockInfo], None]
_HOLDER = f"{PREFIX}holder"  # annotation: what a Lease has no field for, as JSON
_TRIES = 20  # of a change that somebody else's comes in between of


class Timing(Struct, frozen=True, kw_only=True):
    """Seconds. A Lease lasts `lasts` and is renewed every `renew`; a waiting run looks every `poll`. `deadline`, if it is not 0,
    is after how long without a renewal the holder itself takes it for lost, by `monotonic`: less than `lasts`, so that nobody
    else has it before. `patience` bounds one question about it then. `now` only dates things."""

    lasts: float = 30.0
    renew: float = 10.0
    poll: float = 0.5
    deadline: float = 0.0
    patience: float = 3.0
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


LEADING = Timing(lasts=15.0, renew=2.0, poll=2.0, deadline=10.0)  # as controllers of a cluster have it


class Lock:
    """The Lease called `name`; `subject` is what it protects, for messages, `beside` what the heartbeat asks with. Cheap to make. What it has seen of the Lease it
    remembers from one taking to the next."""

    def __init__(
        self,
        objects: Objects,
        *,
        beside: Objects,
        name: str,
        labels: Mapping[str, str],
        subject: str,
        host: Host,
        timing: Timing,
    ) -> None:
        self.name = name
        self.subject = subject
        self.timing = timing
        self._objects = objects
        self._beside = beside
        self._labels = labels
        self._host = host
        self._sight: Sight | None = None

    def acquire(
        self, operation: str, *, timeout: float, on_wait: _Heard | None, on_broken: _Heard | None
    ) -> KubernetesLease:
        """Takes it, waiting up to `timeout` seconds. Raises LockHeld."""
        gives_up = self.timing.monotonic() + timeout
        identity, waited = self.identity(), False
        while True:
            lease, holder, left = self.attempt(identity, operation, on_broken=on_broken)
            if lease is not None:
                return lease
            if holder is None:
                continue  # another was faster
            remaining = gives_up - self.timing.monotonic()
            if remaining <= 0:
                raise self._held(holder)
            if not waited and on_wait is not None:
                on_wait(holder)
            waited = True
            self.timing.sleep(min(self.timing.poll, remaining, left))

    def identity(self) -> str:
        """Of one wish to take it; unlike any other."""
        return f"{self._host.name}_{uuid.uuid4().hex}"

    def attempt(
        self,
        identity: str,
        operation: str,
        *,
        on_broken: _Heard | None = None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> tuple[KubernetesLease | None, LockInfo | None, float]:
        """Take it if that may be done now: the held lease, or who has it (None when that has just changed) and for how many
        seconds it is to be left to him, should he not renew it."""
        asked = self.timing.monotonic()
        found = self._objects.get(LEASE, self.name)
        if found is None:
            made = self._objects.create(LEASE, self._taken({}, identity, operation))
            return (None if made is None else KubernetesLease(self, made, asked, on_lost)), None, 0.0
        decision, holder = self._judged(found, identity)
        if decision.answer is Answer.MINE:
            return KubernetesLease(self, found, asked, on_lost), None, 0.0
        if not decision.takes:
            return None, holder, decision.left
        try:
            made = self._objects.replace(LEASE, self._taken(found, identity, operation))
        except Moved:
            return None, None, 0.0
        if holder is not None and on_broken is not None:
            on_broken(holder)
        return KubernetesLease(self, made, asked, on_lost), None, 0.0

    def _judged(self, found: Json, identity: str) -> tuple[Decision, LockInfo | None]:
        now = self.timing.monotonic()
        self._sight = sighted(self._sight, record_of(found), now)
        holder = holder_of(found)
        ended = holder is not None and self._ended(holder, _known(found))
        return decide(self._sight, now, mine=identity, ended=ended, lasts=self.timing.lasts), holder

    def _ended(self, holder: LockInfo, known: Mapping[str, Any]) -> bool:
        """Whether its process is certainly gone, which only a machine knows of its own processes."""
        here = self._host.judges(name=holder.host, boot=str(known.get("boot") or ""))
        return here and self._host.ended(holder.pid, began=str(known.get("began") or ""))

    def _taken(self, found: Json, identity: str, operation: str) -> Json:
        """The Lease once it is ours."""
        now = _stamp(self.timing.now())
        known = {
            "who": self._host.who,
            "host": self._host.name,
            "pid": self._host.pid,
            "operation": operation,
            "boot": self._host.boot,
            "began": self._host.began(),
        }
        spec = {
            "holderIdentity": identity,
            "leaseDurationSeconds": max(1, round(self.timing.lasts)),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": record_of(found).transitions + 1,
        }
        return self._body(found, spec, {_HOLDER: json.dumps(known, sort_keys=True)})

    def _body(self, found: Json, spec: Mapping[str, Any], annotations: Mapping[str, str]) -> Json:
        """In place of `found`, whose labels and annotations others may have added to."""
        metadata = dict(found.get("metadata") or {"name": self.name})
        metadata.pop("managedFields", None)
        metadata["labels"] = {**(metadata.get("labels") or {}), **self._labels}
        kept = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != _HOLDER}
        metadata["annotations"] = {**kept, **annotations}
        others = {k: v for k, v in (found.get("spec") or {}).items() if k in ("strategy", "preferredHolder")}
        return {"metadata": metadata, "spec": {**others, **spec}}

    def look(self) -> LockInfo | None:
        """Who holds it, None when nobody does."""
        found = self._objects.get(LEASE, self.name)
        return None if found is None else holder_of(found)

    def change(self, mine: Record, spec: Mapping[str, Any], *, beside: bool = False) -> Json:
        """Another spec of the Lease that is ours, and the Lease after it. Raises LeaseLost when it is ours no more."""
        objects = self._beside if beside else self._objects
        for _ in range(_TRIES):
            found = self.demand(mine, objects)
            marks = {_HOLDER: (found["metadata"].get("annotations") or {}).get(_HOLDER, "{}")}
            if not spec.get("holderIdentity"):
                marks = {}
            with contextlib.suppress(Moved):  # by somebody who labels things, or by a try of ours
                return objects.replace(LEASE, self._body(found, spec, marks))
        raise StoreError(
            f"the Lease {self.name} changes all the time", hint="find out what else writes to it"
        )

    def demand(self, mine: Record, objects: Objects | None = None) -> Json:
        """The Lease. Raises LeaseLost unless it is ours, taken as often as when we took it."""
        found = (objects or self._objects).get(LEASE, self.name)
        there = Record() if found is None else record_of(found)
        if found is None or (there.holder, there.transitions) != (mine.holder, mine.transitions):
            raise lease_lost(self.subject, None if found is None else holder_of(found))
        return found

    def break_by_force(self, lock_id: str) -> LockInfo:
        """Frees it whoever holds it. Raises StoreError when the id is another or nobody holds it."""
        for _ in range(_TRIES):
            found = self._objects.get(LEASE, self.name)
            holder = None if found is None else holder_of(found)
            if found is None or holder is None:
                raise nothing_to_unlock(self.subject)
            if holder.id != lock_id:
                raise other_lock(self.subject, holder, lock_id)
            with contextlib.suppress(Moved):  # renewed meanwhile
                self._objects.replace(LEASE, self._body(found, free(record_of(found), self.timing), {}))
                return holder
        raise StoreError(f"the Lease {self.name} changes all the time", hint="try again")

    def _held(self, holder: LockInfo) -> StoreError:
        now = self.timing.now()
        error = lock_held(self.subject, holder, now)
        if holder.expires <= now:
            error.hint = (
                f"nobody seems to renew it: with `--lock-timeout {2 * self.timing.lasts:g}s` it is watched for its whole "
                f"time and then taken over; or, if that run is certainly dead, `reconciler force-unlock {holder.id}`"
            )
        return error


def free(record: Record, timing: Timing) -> dict[str, Any]:
    """The spec of a Lease that nobody holds. The number of takings stays: it is the fence."""
    now = _stamp(timing.now())
    return {
        "leaseDurationSeconds": 1,
        "acquireTime": now,
        "renewTime": now,
        "leaseTransitions": record.transitions,
    }


def record_of(found: Json) -> Record:
    """What of a Lease the decision goes by. What makes no sense counts as not there."""
    spec = found.get("spec") or {}
    return Record(
        holder=str(spec.get("holderIdentity") or ""),
        acquired=str(spec.get("acquireTime") or ""),
        renewed=str(spec.get("renewTime") or ""),
        transitions=_whole(spec.get("leaseTransitions")),
        lasts=float(_whole(spec.get("leaseDurationSeconds"))),
    )


def holder_of(found: Json) -> LockInfo | None:
    """Who holds it, as far as it tells."""
    record, known = record_of(found), _known(found)
    if not record.holder:
        return None
    host, _, lock_id = record.holder.rpartition("_")
    return LockInfo(
        id=lock_id,
        who=str(known.get("who") or record.holder),
        host=str(known.get("host") or host),
        pid=_whole(known.get("pid")),
        operation=str(known.get("operation") or ""),
        since=_moment(record.acquired),
        expires=_moment(record.renewed) + record.lasts,
        fence=record.transitions,
    )


def _known(found: Json) -> Mapping[str, Any]:
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        known = json.loads((found["metadata"].get("annotations") or {}).get(_HOLDER) or "{}")
        if isinstance(known, dict):
            return known
    return {}


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _stamp(at: float) -> str:
    """As a Lease writes its times."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _moment(text: str) -> float:
    """In seconds since the epoch; 0 for what is no time."""
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    return 0.0


class KubernetesLease(Lease):
    """A held Lease. A daemon thread renews it until `release`; once it is found to be another's, or the deadline for a renewal has
    gone by, `lost` says so and `on_lost` is called, on a thread of its own, once or twice."""

    def __init__(self, lock: Lock, made: Json, asked: float, on_lost: Callable[[], None]) -> None:
        info = holder_of(made)
        assert info is not None
        self.info = info
        self._on_lost = on_lost
        self.lost: LeaseLost | None = None
        self.record = record_of(made)
        self._lock = lock
        self._renewed = asked  # by our steady clock; before the question, as its answer may have taken long
        self._released = threading.Event()
        self._trouble: StoreError | None = None  # what kept the last beat from renewing it
        self._heart = threading.Thread(target=self._live, name=f"lease {info.id[:8]}", daemon=True)
        self._heart.start()
        if lock.timing.deadline:
            threading.Thread(target=self._guard, name=f"deadline {info.id[:8]}", daemon=True).start()

    def _live(self) -> None:
        while not self._released.wait(self._lock.timing.renew):
            if not self.beat():
                self._on_lost()
                return

    def _guard(self) -> None:
        """Beside the heart, whose question may hang: past the deadline it is lost, whatever comes of that question."""
        while not self._released.wait(self._left()):
            if self._overdue():
                self._on_lost()
                return

    def _left(self) -> float:
        """Seconds until the deadline."""
        timing = self._lock.timing
        return max(0.0, self._renewed + timing.deadline - timing.monotonic())

    def _overdue(self) -> bool:
        """Whether it is lost, by now also because of the deadline."""
        timing = self._lock.timing
        if self.lost is None and timing.deadline and self._left() <= 0:
            why = "" if self._trouble is None else f": {self._trouble.message}"
            self.lost = LeaseLost(
                f"the lease of {self._lock.subject} was not renewed for {timing.monotonic() - self._renewed:.0f} s{why}",
                hint="" if self._trouble is None else self._trouble.hint,
            )
        return self.lost is not None

    def beat(self) -> bool:
        """Renew it once, as the thread does in its time; False when it is lost."""
        timing = self._lock.timing
        asked = timing.monotonic()
        spec = {
            "holderIdentity": self.record.holder,
            "leaseDurationSeconds": round(self.record.lasts),
            "acquireTime": self.record.acquired,
            "renewTime": _stamp(timing.now()),
            "leaseTransitions": self.record.transitions,
        }
        try:
            self._lock.change(self.record, spec, beside=True)
            self._renewed = asked
        except LeaseLost as lost:
            self.lost = lost
        except StoreError as error:  # the server may be back by the next beat
            self._trouble = error
        return not self._overdue()

    def raised(self, fence: int) -> None:
        """Number this taking higher, because it is known that there were more than the Lease tells. Raises LeaseLost."""
        spec = {
            "holderIdentity": self.record.holder,
            "leaseDurationSeconds": round(self.record.lasts),
            "acquireTime": self.record.acquired,
            "renewTime": _stamp(self._lock.timing.now()),
            "leaseTransitions": fence,
        }
        made = self._lock.change(self.record, spec)
        info = holder_of(made)
        assert info is not None
        self.record, self.info = record_of(made), info

    def check(self) -> None:
        if self.lost is not None:
            raise LeaseLost(self.lost.message, hint=self.lost.hint)
        if self._released.is_set():
            raise LeaseLost(f"the lock of {self._lock.subject} was released already")
        self._lock.demand(self.record)

    def release(self) -> None:
        if self._released.is_set():
            return
        self._released.set()
        if threading.current_thread() is not self._heart:
            self._heart.join(timeout=1.0)
        if self.lost is None:
            with contextlib.suppress(StoreError):
                self._lock.change(self.record, free(self.record, self._lock.timing), beside=True)
