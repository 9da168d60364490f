"""What the engine remembers of containers: its last 256 events, since it was started. Asks, and changes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from msgspec import Struct

from reconciler.backends.containers import SANDBOX_ID
from reconciler.backends.docker.engine import Engine
from reconciler.errors import NotFound

EDITS = ("update", "rename", "connect", "disconnect")
_ACTIONS = (
    "create", "start", "die", "died", "kill", "stop", "oom", "pause", "unpause", "destroy", "remove", *EDITS,
)  # fmt: skip
_DOCKERS_WORD = {"died": "die", "remove": "destroy"}  # for what Podman calls otherwise
_BEGINNING = 1  # seconds since the epoch; 0 would be "none"


class Event(Struct, frozen=True, kw_only=True):
    """One of them, in Docker's words. `at` in seconds since the epoch, by the engine's clock; `name` is the container's name
    before a renaming, or the network's."""

    at: float
    action: str
    container: str
    sandbox_id: str = ""
    exit_code: int | None = None
    signal: int | None = None
    name: str = ""


def history(engine: Engine, now: float) -> list[Event]:
    """Oldest first, for all containers. `now` is the engine's time: asked for later ones it would wait for them."""
    filters = json.dumps({"type": ["container", "network"], "event": list(_ACTIONS)})
    query: dict[str, object] = {"since": _BEGINNING, "filters": filters}
    # Docker knows no `stream`; Podman 4.3 loses events when it is told an end.
    query |= {"stream": "false"} if engine.is_podman else {"until": f"{now:.6f}"}
    return sorted(_read(engine.text("/events", query).splitlines()), key=lambda event: event.at)


def _read(lines: Iterable[str]) -> Iterable[Event]:
    for line in lines:
        with suppress(
            ValueError, KeyError, TypeError, AttributeError, RecursionError
        ):  # evidence: what makes no sense is none
            yield _event(json.loads(line))


def _event(data: Mapping[str, Any]) -> Event:
    attributes: Mapping[str, str] = data["Actor"]["Attributes"]
    is_network = data["Type"] == "network"
    action = str(data["Action"])
    code = attributes.get("exitCode") or attributes.get("containerExitCode")
    before = attributes.get("name", "") if is_network else attributes.get("oldName", "")
    return Event(
        at=int(data["timeNano"]) / 1e9,
        action=_DOCKERS_WORD.get(action, action),
        container=str((is_network and attributes.get("container")) or data["Actor"]["ID"]),
        sandbox_id="" if is_network else attributes.get(SANDBOX_ID) or attributes.get("name", ""),
        exit_code=int(code) if code else None,
        signal=int(attributes["signal"]) if attributes.get("signal") else None,
        name=str(before).removeprefix("/"),
    )


def engine_time(engine: Engine) -> float:
    """What its clock says: one on another machine may go wrong by any amount."""
    if engine.is_local:
        return time.time()
    return moment(engine.get("/info").get("SystemTime")) or time.time()


def began(engine: Engine) -> float | None:
    """When the engine was started, in seconds since the epoch, as far as that shows: Docker makes its default network anew
    each time, unless it found containers that had lived on (live restore). Podman has no engine that could be restarted."""
    if engine.is_podman:
        return None
    try:
        found = engine.get("/networks/bridge")
    except NotFound:  # an engine without one
        return None
    return moment(found.get("Created")) if isinstance(found, dict) else None


def booted() -> float | None:
    """When this machine was started; None where it does not say so."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            found = next(line for line in file if line.startswith("btime "))
    except (OSError, StopIteration):
        return None
    return float(found.split()[1])


def moment(stamp: object) -> float | None:
    """Seconds since the epoch of an engine's time stamp; None for "never", or for none at all."""
    try:
        found = datetime.fromisoformat(str(stamp)).timestamp()
    except (ValueError, OverflowError):
        return None
    return found if found > 0 else None
