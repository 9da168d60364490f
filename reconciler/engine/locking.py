"""The stack's lock, taken with a word about whom we wait for and whose dead lock was broken."""

from __future__ import annotations

from reconciler.engine.context import Context
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.event import Remark
from reconciler.stores.base import Lease, LockInfo


def locked(context: Context, operation: str, timeout: float) -> Lease:
    """Wait up to `timeout` seconds for it, and say what the store has to say to whoever writes. Raises LockHeld."""
    lease = context.store.lock(
        operation,
        timeout=timeout,
        on_wait=lambda holder: context.emit(Remark(diagnostic=_waits(holder, context.clock.now()))),
        on_broken=lambda holder: context.emit(Remark(diagnostic=_broken(holder))),
    )
    for note in context.store.notes():
        context.emit(
            Remark(diagnostic=Diagnostic(severity=Severity.WARNING, code="state-exposed", summary=note))
        )
    return lease


def _waits(holder: LockInfo, now: float) -> Diagnostic:
    lasts = holder.lasts(now)
    return Diagnostic(
        severity=Severity.NOTE,
        code="lock-wait",
        summary=f"waiting for the lock of {holder.holder} (lock {holder.id}){lasts and f'; {lasts}'}",
    )


def _broken(holder: LockInfo) -> Diagnostic:
    return Diagnostic(
        severity=Severity.NOTE,
        code="lock-broken",
        summary=f"the lock of {holder.holder} was left by a run that is gone; it is ours now",
    )
