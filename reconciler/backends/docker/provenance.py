"""How a container came to be as it is: what it shows itself, weighed with what the engine remembers. Pure.

First the rules that leave no doubt. A conclusion from an exit code alone says in its detail that it is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from signal import Signals
from typing import Any

from msgspec import Struct

from reconciler.backends.docker.history import EDITS, Event, moment
from reconciler.backends.docker.look import NEVER_STARTED, exit_text
from reconciler.model.drift import Cause, Provenance

_SIGKILL, _SIGTERM = 9, 15
_ASKING = (2, 3, _SIGTERM)  # signals that ask a program to end
_ASKED = (128 + 2, 128 + _SIGTERM)  # exit codes of one that was asked, and did not answer by itself
_LOST = 255  # the exit code of a container whose end the engine did not see
_DOWN = 60.0  # seconds before the engine is up again in which it ends containers, or finds them ended
_OFF = 600.0  # seconds from the end of the last container to the machine's next start
_ENDS_WITHIN = 60.0  # seconds that a program which was asked to end may take
_FORGOTTEN = "the engine does not remember how"


def _nobody(_: float) -> bool:
    """When no deed of one's own is known."""
    return False


class Circumstances(Struct, frozen=True, kw_only=True):
    """Times in seconds since the epoch, None where unknown: when the engine was last started, and its machine. Of a time,
    `own_work` says whether this very backend object was at work on the sandbox then, `own_end` whether to end it."""

    engine_began: float | None = None
    booted: float | None = None
    own_work: Callable[[float], bool] = _nobody
    own_end: Callable[[float], bool] = _nobody


class End(Struct, frozen=True, kw_only=True):
    """How a run of a container ended. `at` and `started` None when unknown."""

    code: int
    at: float | None
    started: float | None = None
    out_of_memory: bool = False
    error: str = ""


def end_of(item: Mapping[str, Any]) -> End | None:
    """As an inspection shows it."""
    state = item["State"]
    if not isinstance(state.get("ExitCode"), int):
        return None
    return End(
        code=state["ExitCode"],
        at=moment(state.get("FinishedAt")),
        started=moment(state.get("StartedAt")),
        out_of_memory=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or "").strip()[:200],
    )


def last_run(events: Sequence[Event]) -> Sequence[Event]:
    """Those since it was last started, or all that are remembered."""
    starts = [number for number, event in enumerate(events) if event.action == "start"]
    return events[starts[-1] + 1 :] if starts else events


def tells_all(events: Sequence[Event]) -> bool:
    """Whether the history alone says how it ended: no inspection could add anything."""
    run = last_run(events)
    death = _last(run, "die")
    if death is None or death.exit_code is None:
        return False
    return (
        death.exit_code != 128 + _SIGKILL or _last(run, "kill") is not None or _last(run, "oom") is not None
    )


def of_gone(events: Sequence[Event], around: Circumstances) -> Provenance | None:
    """Of a container that is not there any more."""
    removed, death = _last(events, "destroy"), _last(events, "die")
    if removed is None or around.own_end(removed.at):
        return None
    detail = "removed through the engine"
    if death is not None and death.exit_code is not None:
        killed = _last(last_run(events), "kill")
        forced = killed is not None and killed.signal in (None, _SIGKILL) and removed.at - killed.at < 10.0
        detail += " while it ran" if forced else f", after it had ended ({exit_text(death.exit_code)})"
    return Provenance(cause=Cause.REMOVED, detail=detail, at=removed.at)


def of_paused(events: Sequence[Event]) -> Provenance:
    paused = _last(events, "pause")
    return Provenance(
        cause=Cause.PAUSED, detail="paused through the engine", at=None if paused is None else paused.at
    )


def of_running(events: Sequence[Event], around: Circumstances) -> Provenance | None:
    """Of one that runs, and is not as it was made. Networks come and go with every start too: those count only since."""
    since = last_run(events)
    edits = [
        event
        for event in events
        if event.action in EDITS
        and (event.action in ("update", "rename") or event in since)
        and not around.own_work(event.at)
    ]
    if not edits:
        return None
    told = dict.fromkeys(_edit(event) for event in edits)
    return Provenance(cause=Cause.EDITED, detail="; ".join(list(told)[-3:]), at=edits[-1].at)


def _edit(event: Event) -> str:
    match event.action:
        case "rename":
            return f"renamed from {event.name}" if event.name else "renamed"
        case "update":
            return "changed by `docker update` or the like"
        case _:
            return f"{event.action}ed {'to' if event.action == 'connect' else 'from'} network {event.name}"


def of_never_started() -> Provenance:
    return Provenance(cause=Cause.INTERRUPTED, detail=NEVER_STARTED)


def of_dead(end: End | None, events: Sequence[Event], around: Circumstances) -> Provenance | None:
    """`end` is what an inspection shows, for where the history does not tell all. None when nothing is known of it, or when
    it was this object that ended it."""
    run = last_run(events)
    death = _last(run, "die")
    if end is None:
        if death is None or death.exit_code is None:
            return None
        end = End(code=death.exit_code, at=death.at)
    kills = [event for event in run if event.action in ("kill", "stop") and _concerns(event, end)]
    if any(around.own_end(event.at) for event in kills) or (
        death is None and end.at and around.own_end(end.at)
    ):
        return None
    out_of_memory = end.out_of_memory or _last(run, "oom") is not None
    cause, detail = (
        _restart(end, around)
        or (_out_of_memory(end) if out_of_memory and end.code else None)
        or (_ended_through_the_engine(end, kills) if kills else None)
        or _by_code(end, remembered=death is not None)
    )
    return Provenance(cause=cause, detail=f"{detail}: {end.error}" if end.error else detail, at=end.at)


def _concerns(event: Event, end: End) -> bool:
    """Whether it may be the reason: a signal to reload, hours before, is not."""
    return end.at is None or abs(end.at - event.at) < _ENDS_WITHIN


def _restart(end: End, around: Circumstances) -> tuple[Cause, str] | None:
    """An engine that is stopped asks its containers to end; one that finds them ended, or running after its own crash, notes
    that before it is up. A container that did not see its machine's start ended with the machine."""
    told, at = exit_text(end.code), end.at or 0.0
    boot, engine = around.booted, around.engine_began
    if boot and (boot - _OFF < at < boot or (end.started and end.started < boot and end.code == _LOST)):
        return Cause.HOST_RESTARTED, told
    if engine and at < engine and (end.code == _LOST or engine - at < _DOWN):
        return Cause.ENGINE_RESTARTED, told
    return None


def _out_of_memory(end: End) -> tuple[Cause, str]:
    return Cause.OUT_OF_MEMORY, f"{exit_text(end.code)}, at its limit of memory"


def _ended_through_the_engine(end: End, kills: Sequence[Event]) -> tuple[Cause, str] | None:
    """Podman does not tell signals: then the exit code does."""
    told = exit_text(end.code)
    signals = [event.signal for event in kills if event.signal is not None]
    asked = next((number for number in signals if number in _ASKING), None)
    stopped = any(event.action == "stop" for event in kills)
    if asked is not None or stopped:
        word = _named(asked or (signals[0] if signals else _SIGTERM))
        if end.code == 128 + _SIGKILL:
            return Cause.STOPPED, f"{told}, when it did not end after {word}"
        return Cause.STOPPED, f"{told} after {word}, sent through the engine"
    if end.code > 128 and (not signals or end.code - 128 in signals):
        return Cause.KILLED, f"{told}, sent through the engine"
    return None


def _by_code(end: End, *, remembered: bool) -> tuple[Cause, str]:
    told = exit_text(end.code)
    if end.code == 0:
        return (Cause.ENDED, told) if remembered else (Cause.UNKNOWN, f"{told}; {_FORGOTTEN}")
    if end.code == 128 + _SIGKILL or end.code in _ASKED:
        cause = Cause.KILLED if end.code == 128 + _SIGKILL else Cause.STOPPED
        return cause, f"{told}, not sent through the engine" if remembered else f"{told}; {_FORGOTTEN}"
    return Cause.CRASHED, told if remembered else f"{told}; {_FORGOTTEN}"


def _named(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last(events: Sequence[Event], action: str) -> Event | None:
    return next((event for event in reversed(events) if event.action == action), None)
