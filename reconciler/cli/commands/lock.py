"""`reconciler lock show` and `reconciler force-unlock ID`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.groups import LazyGroup
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.jsonline import line
from reconciler.cli.views.style import harmless
from reconciler.cli.views.values import age
from reconciler.cli.wiring import opened_store

if TYPE_CHECKING:
    from reconciler.stores.base import LockInfo

lock = LazyGroup(
    name="lock",
    help="The lock of the stack.",
    listing={"Commands": {"show": (f"{__name__}:lock_show", "Show who holds the lock.")}},
)


@command("show")
def lock_show(call: Invocation) -> int:
    """Show who holds the lock, doing what, and since when."""
    with opened_store(call) as (desired, store):
        held, where = store.lock_info(), store.describe()
        abandoned = held is not None and store.abandoned()
    if call.settings.json:
        call.terminal.line(line({"stack": desired.stack, "lock": None if held is None else held.to_dict()}))
    elif held is None:
        call.terminal.line(f"Nobody holds the lock of stack {harmless(desired.stack)} ({harmless(where)}).")
    else:
        call.terminal.answer(_lock_text(held, time.time(), abandoned=abandoned))
    return ExitCode.DONE


@command("force-unlock")
@click.argument("lock_id", metavar="ID")
def force_unlock(call: Invocation, *, lock_id: str) -> int:
    """Break the lock ID, as `reconciler lock show` prints it.

    Only for a run that is gone for certain: one that still lives finds its lock taken and stops writing.
    """
    with opened_store(call) as (_, store):
        broken = store.force_unlock(lock_id)
    if call.settings.json:
        call.terminal.line(line({"broken": broken.to_dict()}))
    else:
        call.terminal.line(f"The lock {harmless(broken.id)} of {harmless(broken.holder)} is broken.")
    return ExitCode.DONE


def _lock_text(held: LockInfo, now: float, *, abandoned: bool) -> str:
    """What the server of an `http` store does not tell is left open."""
    where = [held.host] * (held.host != "") + [f"pid {held.pid}"] * (held.pid > 0)
    rows = [
        ("id", held.id),
        ("who", held.who),
        ("where", ", ".join(where)),
        ("what", held.operation),
        ("since", _since(held, now)),
        ("lease", _abandoned(held) if abandoned else _lease(held, now)),
    ]
    return "".join(f"{name:<6} {harmless(value) or 'not known'}\n" for name, value in rows)


def _since(held: LockInfo, now: float) -> str:
    if not held.since:
        return ""
    since = datetime.fromtimestamp(held.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{since} ({age(max(0.0, now - held.since))} ago)"


def _lease(held: LockInfo, now: float) -> str:
    if not held.expires:
        return "none: it is held until it is given back, or broken with `reconciler force-unlock`"
    left = held.expires - now
    lease = f"expires in {age(left)} unless renewed" if left > 0 else f"expired {age(-left)} ago"
    return f"{lease}, fence {held.fence}"


def _abandoned(held: LockInfo) -> str:
    return f"of a process that is gone, so the next run takes it over, fence {held.fence}"
