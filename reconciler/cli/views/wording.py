"""What a plan says beside its steps, as plain sentences and rows: moves, rollouts, refusals, what was left out, what is
about to expire. The views for terminals and for comments say the same in the same words.

Knows no width and no colour; every text is harmless already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from reconciler.cli.views.grouping import named, split, together
from reconciler.cli.views.style import harmless
from reconciler.cli.views.values import age, counted, span
from reconciler.model.address import Address, address_order
from reconciler.model.diagnostic import Diagnostic
from reconciler.model.plan import Plan, Rung, Selection, Step, Waves

NOT_REFRESHED = "Planned on what is recorded: no backend was asked (--no-refresh)."
REFUSED = "Refused:"
SOON = 24 * 3600.0  # seconds; what expires later is nobody's business today
_MOST_EXPIRING = 5
_MOST_LEFT_OUT = 8
_MOST_WAVES = 9
_FIRST_WAVES, _LAST_WAVES = 5, 3

_RUNGS: Mapping[Rung, str] = {
    Rung.PROBE: "waits for it again",
    Rung.RESTART: "restarts it",
}


class MoveRow(Struct, frozen=True, kw_only=True):
    """Records that move alike: one, or all of a group."""

    source: str
    target: str
    place: str = ""


class WaveRow(Struct, frozen=True, kw_only=True):
    """One wave of a rollout, or a run of those that were cut out of the middle: then `label` is an ellipsis."""

    label: str
    names: str


def ladder(step: Step) -> str:
    """What a repair tries before it replaces: `first waits for it again, then restarts it; replaced only if …`."""
    if not step.rungs:
        return ""
    first, *rest = (_RUNGS[rung] for rung in step.rungs)
    tries = ", then ".join([f"first {first}", *rest])
    return f"{tries}; replaced only if that does not help"


def needed_by(step: Step) -> str:
    return f"not selected, but needed by {harmless(step.needed_by)}" if step.needed_by else ""


def selected(selection: Selection) -> str:
    """`Selected by --target researcher.`, as it would be typed; empty for a plan of everything."""
    if not selection.targets and not selection.excludes:
        return ""
    import shlex

    given = [f"--target {shlex.quote(pattern)}" for pattern in selection.targets]
    given += [f"--exclude {shlex.quote(pattern)}" for pattern in selection.excludes]
    return f"Selected by {harmless(' '.join(given))}."


def left_out(plan: Plan) -> str:
    """`3 addresses with changes left out (not selected): …`; without a selection they wait for their rollout."""
    if not plan.left_out:
        return ""
    names = list(grouped(plan.left_out))
    more = len(names) - _MOST_LEFT_OUT
    shown = names if more <= 0 else [*names[:_MOST_LEFT_OUT], f"and {counted(more, 'more group')}"]
    count = counted(len(plan.left_out), "address", "addresses")
    why = "not selected" if plan.selection.partial else "their rollout waits"
    return f"{count} with changes left out ({why}): {', '.join(shown)}"


def moves(plan: Plan) -> list[MoveRow]:
    """Old and new address; replicas that keep their key and move by the same line are one row."""
    same: dict[tuple[object, ...], list[tuple[Address, Address]]] = {}
    for move in plan.moves:
        (old, key), (new, other) = split(move.source), split(move.target)
        alike = (old, new, move.position) if key and key == other else (move.source, move.target)
        same.setdefault((*alike, move.position), []).append((move.source, move.target))
    places = {(move.source, move.target): move.position for move in plan.moves}
    rows = []
    for pairs in same.values():
        position = places[pairs[0]]
        rows.append(
            MoveRow(
                source=named([source for source, _ in pairs]),
                target=together([target for _, target in pairs]),
                place=harmless(position.short) if position else "",
            )
        )
    return rows


def moved(count: int) -> str:
    return "1 record moves" if count == 1 else f"{count} records move"


def rollout_title(waves: Waves, plan: Plan) -> str:
    """`Rollout of researcher: 5 waves, at most 2 of 10 down at a time, each healthy for 10s before the next`"""
    keys = {key for wave in waves.waves for key in wave}
    goes_down = any(step.destroys and not step.create_first for step in plan.steps if step.key in keys)
    how = "down at a time" if goes_down else "at a time"
    parts = [counted(len(waves.waves), "wave"), f"at most {waves.at_once} of {waves.size} {how}"]
    if len(waves.waves) > 1:
        healthy = f"healthy for {span(waves.min_healthy)}" if waves.min_healthy else "ready"
        parts.append(f"each {healthy} before the next")
    elif waves.min_healthy:
        parts.append(f"healthy for {span(waves.min_healthy)} at the end")
    return f"Rollout of {harmless(waves.group)}: {', '.join(parts)}"


def rollout_end(waves: Waves) -> str:
    """What happens when a wave is not healthy."""
    if len(waves.waves) == 1:
        return "takes it back when it does not get healthy (auto_revert)" if waves.auto_revert else ""
    back = ", and takes changed ones back (auto_revert)" if waves.auto_revert else ""
    return f"stops at the first bad wave{back}"


def wave_rows(waves: Waves, plan: Plan) -> list[WaveRow]:
    """The waves in order; of a long rollout the first and the last, and how much is between them."""
    addresses = {step.key: step.address for step in plan.steps}
    lists = [[addresses.get(key, Address(key.partition("#")[0])) for key in wave] for wave in waves.waves]
    rows = [
        WaveRow(
            label=f"{number}{' canary' if waves.canary and number == 1 else ''}",
            names=", ".join(grouped(wave)),
        )
        for number, wave in enumerate(lists, start=1)
    ]
    if len(rows) <= _MOST_WAVES:
        return rows
    cut = lists[_FIRST_WAVES:-_LAST_WAVES]
    members = ", ".join(grouped([address for wave in cut for address in wave]))
    between = WaveRow(label="…", names=f"{counted(len(cut), 'more wave')}: {members}")
    return [*rows[:_FIRST_WAVES], between, *rows[-_LAST_WAVES:]]


def expiring(plan: Plan) -> tuple[list[tuple[str, str]], int]:
    """(name, `expires in 14m`) of what stays as it is and is over within a day, soonest first; and of how many more."""
    unchanged = frozenset(plan.unchanged)
    soon = sorted(
        (seconds, address_order(address), address)
        for address, seconds in plan.expiring.items()
        if address in unchanged and seconds <= SOON
    )
    rows: dict[tuple[str, str], list[Address]] = {}
    for seconds, _, address in soon:
        when = f"expires in {age(seconds)}" if seconds >= 1 else "expires now"
        group, key = split(address)
        rows.setdefault((group if key else f"{address} alone", when), []).append(address)
    shown = list(rows.items())[:_MOST_EXPIRING]
    told = sum(len(addresses) for _, addresses in shown)
    return [(together(addresses), when) for (_, when), addresses in shown], len(soon) - told


def places(diagnostic: Diagnostic) -> Iterator[str]:
    """Where it is, and what else matters: `sandboxes.yaml:31`, `declared here: sandboxes.yaml:4`."""
    if diagnostic.position:
        yield harmless(diagnostic.position.short)
    for what, position in diagnostic.related:
        yield harmless(f"{what}: {position.short}")


def grouped(addresses: Iterable[Address]) -> Iterator[str]:
    """Addresses by group: `db`, `researcher[0..2] (3×)`."""
    groups: dict[tuple[str, bool], list[Address]] = {}
    for address in addresses:
        group, key = split(address)
        groups.setdefault((group, bool(key)), []).append(address)
    return (together(sorted(same, key=address_order)) for same in groups.values())


def tried(names: Sequence[str], what: Sequence[str]) -> str:
    """`researcher[1]: waited again: not ready after 5s; restarted: it answers`"""
    return harmless(f"{together(names)}: {'; '.join(what)}")
