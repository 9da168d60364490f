"""The stack's lock, taken with a word about whom we wait for and whose dead lock was broken."""

from __future__ import annotations

from reconciler.engine.context import Context
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.event import Remark
from reconciler.stores.base import Lease, LockInfo


def locked(context: Context, operation: str, timeout: float) -> Lease:
    """Wait up to `timeout` seconds for it. Raises LockHeld."""
    return context.store.lock(
        operation,
        timeout=timeout,
        on_wait=lambda holder: context.emit(Remark(diagnostic=_waits(holder, context.clock.now()))),
        on_broken=lambda holder: context.emit(Remark(diagnostic=_broken(holder))),
    )


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
