"""All budgets in one table: what each is, how much, and why. README.md beside this shows how they are read and changed.

Counts only: they are the same on every machine, however busy, and seconds are not.
"""

from __future__ import annotations

from msgspec import Struct


class Budget(Struct, frozen=True, kw_only=True):
    """`most` of what may be counted; `why` it is that much and what it would cost users to exceed it."""

    most: float
    why: str


BUDGETS = {
    "docker: questions of a no-op plan": Budget(
        most=1,
        why="one listing tells all that is declared; a question a sandbox would make a plan grow with round trips",
    ),
    "docker: inspections of a no-op plan with limits, a sandbox": Budget(
        most=1,
        why="limits are what a listing does not show, so each sandbox is inspected, and once",
    ),
    "docker: changes of an apply, a sandbox": Budget(
        most=2,
        why="create and start, and the daemon is the limit; looks while it is waited for depend on how long",
    ),
    "docker: changes of a destroy, a sandbox": Budget(most=2, why="stop and remove"),
    "kubernetes: listings of a no-op plan": Budget(
        most=2, why="one of each kind of object that is ours; no object is asked for by its name"
    ),
    "kubernetes: objects read by name in a no-op plan, a sandbox": Budget(
        most=0, why="what is listed is all there is to know; an API server throttles who asks for each"
    ),
    "remote: requests of a no-op plan": Budget(
        most=1,
        why="one listing; a provisioner looks every sandbox up on its cluster whenever it is asked for one",
    ),
    "remote: connections of a no-op plan": Budget(
        most=1, why="each costs a handshake, with TLS two round trips more"
    ),
    "memory: listings of a no-op plan": Budget(most=1, why="the same promise where nothing else can hide it"),
    "store: syncs of an apply beyond one a sandbox": Budget(
        most=16,
        why="one at a time, each create waits for its intent; the rest are the lock, the key, the journal's beginning, "
        "the first and the last state, its backup and the version that is kept, each file with its directory",
    ),
    "store: renames of an apply": Budget(
        most=8,
        why="lock, key, journal, state, backup and version are replaced as a whole; a rename a sandbox would be a write of "
        "all of them each time",
    ),
    "store: syncs of an apply that changes nothing": Budget(
        most=3, why="the lock is taken and given back; nothing else is written"
    ),
    "store: syncs of a plan": Budget(most=0, why="a plan changes nothing"),
    "store: snapshots of an apply": Budget(
        most=2, why="before the first effect and after the last; what is between is in the journal"
    ),
    "store: syncs of an apply in many lanes, a sandbox": Budget(
        most=0.5, why="a round's intents are synced together, and each round takes up whatever lanes are free"
    ),
    "twice the sandboxes: calls of functions": Budget(
        most=2.1,
        why="linear, for reading, planning and applying: whatever grows with the square shows here long before anybody has "
        "as many; a little more is for what is looked up in sorted order",
    ),
    "plan: calls of functions, a sandbox": Budget(
        most=350, why="processor time without a clock; the interpreter spends most of a plan in calls"
    ),
    "plan of 10,000: bytes at the peak, a sandbox": Budget(
        most=8_000,
        why="80 MB at ten thousand, beside 40 MB of interpreter and libraries: under 150 MB together",
    ),
    "twice the sandboxes: bytes at the peak": Budget(most=2.1, why="linear, as the calls are"),
}


def within(name: str, counted: float, detail: str = "") -> None:
    """Fails when the budget is exceeded, with the difference, the reason for it, and `detail` of what was counted."""
    budget = BUDGETS[name]
    if counted > budget.most:
        raise AssertionError(
            f"{name}: {counted:g}, which is {counted - budget.most:g} over the budget of {budget.most:g}\n"
            f"It is that much because: {budget.why}\n{detail}"
        )
