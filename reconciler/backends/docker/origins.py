"""Asks what `provenance` weighs, for many sandboxes at once: the listing, the history, the engine's own start; and each
container whose end the history does not tell.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from time import time
from typing import Any

from reconciler.backends.containers import SANDBOX_ID
from reconciler.backends.docker import provenance as weighed
from reconciler.backends.docker.engine import Engine
from reconciler.backends.docker.find import sense
from reconciler.backends.docker.history import Event, began, booted, engine_time, history
from reconciler.backends.docker.provenance import Circumstances, End
from reconciler.backends.own_deeds import ENDING, OwnDeeds
from reconciler.errors import NotFound
from reconciler.model.drift import Provenance

_DEAD = ("exited", "stopped")  # Podman's word is the second
_AT_ONCE = 8


def origins(engine: Engine, sandbox_ids: Collection[str], deeds: OwnDeeds) -> Mapping[str, Provenance]:
    """By sandbox id; what nobody knows is left out. Raises as every question to the engine does."""
    if not sandbox_ids:
        return {}
    now = engine_time(engine)
    ahead = now - time() if not engine.is_local else 0.0
    with sense(engine.name):
        found = _by_sandbox(engine.containers(), sandbox_ids)
    told = _told(history(engine, now), found, sandbox_ids)
    dead = {name: item for name, item in found.items() if item.get("State") in _DEAD}
    engine_began = began(engine) if dead else None
    machine = booted() if engine.is_local else None
    ends = _ends(engine, {name: item for name, item in dead.items() if not weighed.tells_all(told[name])})
    origin: dict[str, Provenance] = {}
    for name in sorted(sandbox_ids):
        around = Circumstances(
            engine_began=engine_began,
            booted=machine,
            own_work=partial(_was_ours, deeds, name, ahead, ()),
            own_end=partial(_was_ours, deeds, name, ahead, ENDING),
        )
        one = _origin(found.get(name), told[name], ends.get(name), around)
        if one is not None:
            origin[name] = one
    return origin


def _was_ours(deeds: OwnDeeds, name: str, ahead: float, verbs: Collection[str], at: float) -> bool:
    """`at` by the engine's clock, which is that much `ahead` of this machine's, in seconds."""
    return deeds.covers(name, at - ahead, verbs)


def _origin(
    item: Mapping[str, Any] | None, events: Sequence[Event], end: End | None, around: Circumstances
) -> Provenance | None:
    state = None if item is None else item.get("State")
    match state:
        case None:
            return weighed.of_gone(events, around)
        case "paused":
            return weighed.of_paused(events)
        case "running":
            return weighed.of_running(events, around)
        case "created":
            return weighed.of_never_started()
        case _ if state in _DEAD:
            return weighed.of_dead(end, events, around)
    return None


def _by_sandbox(
    items: Sequence[Mapping[str, Any]], sandbox_ids: Collection[str]
) -> dict[str, Mapping[str, Any]]:
    """The newest container of each: by its label, or by its name where others made it."""
    found: dict[str, Mapping[str, Any]] = {}
    for item in sorted(items, key=lambda item: int(item.get("Created") or 0)):
        names = item.get("Names") or [""]
        name = (item.get("Labels") or {}).get(SANDBOX_ID) or str(names[0]).removeprefix("/")
        if name in sandbox_ids:
            found[name] = item
    return found


def _told(
    events: Sequence[Event], found: Mapping[str, Mapping[str, Any]], sandbox_ids: Collection[str]
) -> dict[str, list[Event]]:
    """What is remembered of each sandbox's last container. Networks name the container only."""
    containers = {str(item["Id"]): name for name, item in found.items()}
    last_of = {name: container for container, name in containers.items()}
    for event in events:
        if event.sandbox_id in sandbox_ids and event.sandbox_id not in found:
            last_of[event.sandbox_id] = event.container
    names = {container: name for name, container in last_of.items()}
    told: dict[str, list[Event]] = {name: [] for name in sandbox_ids}
    for event in events:
        if event.container in names:
            told[names[event.container]].append(event)
    return told


def _ends(engine: Engine, items: Mapping[str, Mapping[str, Any]]) -> dict[str, End | None]:
    """One question each, few at a time: only the dead whose death the engine has forgotten, as after its restart."""

    def end(item: Mapping[str, Any]) -> End | None:
        with suppress(NotFound), sense(engine.name):
            return weighed.end_of(engine.inspect(str(item["Id"])))
        return None

    with ThreadPoolExecutor(min(_AT_ONCE, len(items) or 1)) as pool:
        return dict(zip(items, pool.map(end, items.values()), strict=True))
