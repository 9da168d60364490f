"""Sandboxes that exist in memory only: for tests, for trying a configuration, for measuring the engine.

A complete backend all the same: what it declares it does. What there is is kept in a world (`worlds`).
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import ClassVar

from reconciler.backends.base import ExecResult, ProbeAnswer, SandboxBackend, Subscription
from reconciler.backends.ownership import check_owner
from reconciler.backends.worlds import Thing, World, world
from reconciler.errors import NotFound, Permanent, Unavailable
from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import Owner, ProbeKind, Readiness, SandboxSpec, Scalar
from reconciler.model.drift import Cause, Provenance
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo

_SANDBOX_ID = re.compile(r"[a-z0-9]([-a-z0-9]{0,49}[a-z0-9])?")
_UPDATABLE = ("resources.cpu", "resources.memory", "resources.pids")


class MemoryBackend(SandboxBackend):
    """`world` names what is shared; `path` keeps it in a JSON file instead. `create_seconds` is how long a create
    takes, `ready_seconds` how much later the sandbox is ready; `progress` is what a create says meanwhile, one after the
    other. Time comes from `now` (seconds since the epoch) and
    `sleep`, both replaceable."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        default=Support.ENFORCED,
        updatable=_UPDATABLE,
        probes=frozenset({"http", "tcp", "exec", "none"}),
        logs=True,
        exec=True,
        events=True,
        restarts=True,
        create_cost="instant",
        max_in_flight=64,
    )

    def __init__(
        self,
        world: str = "default",
        *,
        path: str | None = None,
        create_seconds: float = 0.0,
        ready_seconds: float = 0.0,
        progress: Sequence[str] = (),
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._world = _open_world(world, path)
        self._create_seconds = float(create_seconds)
        self._ready_seconds = min(float(ready_seconds), 1e12)  # the file of a world holds no infinity
        self._progress = (progress,) if isinstance(progress, str) else tuple(map(str, progress))
        self._say: Callable[[str, str], None] = _say_nothing
        self._listening: list[Subscription] = []
        self._now = now
        self._sleep = sleep

    def create(
        self,
        thread_id: str | None,
        sandbox_id: str,
        extra_mounts: list[tuple[str, str, bool]] | None = None,
        *,
        spec: SandboxSpec | None = None,
    ) -> SandboxInfo:
        if not _SANDBOX_ID.fullmatch(sandbox_id):
            raise Permanent(f"{sandbox_id!r} cannot be a sandbox id", hint="use 1 to 51 of a-z, 0-9 and -")
        self._take_time(sandbox_id)
        spec = spec or SandboxSpec()
        with self._world.transaction(changes=sandbox_id) as things:
            existing = things.get(sandbox_id)
            if existing is not None and _is_the_same(existing, spec.owner, self._now()):
                if existing.phase == Phase.PAUSED:
                    _undo(existing)
                return existing.info
            things.pop(sandbox_id, None)
            self._world.removed.pop(sandbox_id, None)
            things[sandbox_id] = self._make(thread_id, sandbox_id, extra_mounts or [], spec, things)
            return things[sandbox_id].info

    def _take_time(self, sandbox_id: str) -> None:
        for note in self._progress:
            self._say(sandbox_id, note)
            self._sleep(self._create_seconds / len(self._progress))
        if self._create_seconds and not self._progress:
            self._sleep(self._create_seconds)

    def tell_progress(self, tell: Callable[[str, str], None]) -> None:
        self._say = tell

    def _make(
        self,
        thread_id: str | None,
        sandbox_id: str,
        mounts: list[tuple[str, str, bool]],
        spec: SandboxSpec,
        things: dict[str, Thing],
    ) -> Thing:
        flat = dict(spec.canonical())
        for source, target, read_only in mounts:
            flat[f"mounts.{target}.source"], flat[f"mounts.{target}.read_only"] = source, read_only
        if thread_id is not None:
            flat["thread_id"] = thread_id
        now = self._now()
        return Thing(
            sandbox_id=sandbox_id,
            instance=os.urandom(8).hex(),
            created_at=now,
            ready_at=now + self._ready_seconds,
            owner=spec.owner,
            flat=flat,
            ports=self._world.publish(
                {"http": None, **{port.name: port.host for port in spec.ports}}, things
            ),
            log=[f"created {sandbox_id}"],
        )

    def destroy(self, info: SandboxInfo) -> None:
        with self._world.transaction(changes=info.sandbox_id) as things:
            things.pop(info.sandbox_id, None)
            self._world.removed.pop(info.sandbox_id, None)

    def is_alive(self, info: SandboxInfo) -> bool:
        return self.discover(info.sandbox_id) is not None

    def discover(self, sandbox_id: str) -> SandboxInfo | None:
        seen = self.look(sandbox_id)
        return seen.info if seen is not None and _runs(seen.phase) else None

    def list_running(self) -> list[SandboxInfo]:
        return [seen.info for seen in self.observe() if _runs(seen.phase)]

    def observe(self) -> Sequence[ObservedSandbox]:
        now = self._now()
        with self._world.transaction() as things:
            return [_seen(thing, now) for thing in things.values()]

    def look(self, sandbox_id: str) -> ObservedSandbox | None:
        with self._world.transaction() as things:
            thing = things.get(sandbox_id)
            return None if thing is None else _seen(thing, self._now())

    def update(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        with self._existing(info.sandbox_id) as thing:
            wanted = spec.canonical()
            for path in _UPDATABLE:
                if path in wanted:
                    thing.flat[path] = wanted[path]
                else:
                    thing.flat.pop(path, None)
            thing.owner = spec.owner or thing.owner
            if not thing.phase:
                _undo(thing)
            thing.log.append("updated")
            return thing.info

    def restart(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        """It is ready as long after this as after a creation; its ports stay."""
        with self._existing(info.sandbox_id) as thing:
            _undo(thing)
            thing.ready_at = self._now() + self._ready_seconds
            thing.log.append("restarted")
            return thing.info

    def probe(self, info: SandboxInfo, readiness: Readiness, timeout: float) -> ProbeAnswer | None:
        """For every kind: there is nothing to send a request to."""
        seen = self.look(info.sandbox_id)
        if seen is None or seen.phase.is_dead:
            return ProbeAnswer(ready=False, dead=True, detail=seen.detail if seen else "it is gone")
        if seen.phase is not Phase.READY:
            return ProbeAnswer(ready=False, detail=str(seen.phase))
        if readiness.kind is ProbeKind.EXEC:
            code = self.exec(info, readiness.command).exit_code
            return ProbeAnswer(ready=code == 0, detail=f"exit code {code}")
        return ProbeAnswer(ready=True)

    def logs(self, info: SandboxInfo, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        """`follow` ends at once: whatever happens here has happened already."""
        with self._world.transaction() as things:
            if info.sandbox_id not in things:
                raise NotFound(f"there is no sandbox {info.sandbox_id}")
            lines = list(things[info.sandbox_id].log)
        return iter(lines if tail is None else lines[max(0, len(lines) - tail) :])

    def exec(self, info: SandboxInfo, command: Sequence[str], *, timeout: float = 60.0) -> ExecResult:
        """Knows `echo`, `true` and `false`; for any other command it answers 127, as a shell does."""
        if self.discover(info.sandbox_id) is None:
            raise NotFound(f"sandbox {info.sandbox_id} is not running")
        name, words = (command[0], command[1:]) if command else ("", ())
        match name:
            case "echo":
                return ExecResult(exit_code=0, stdout=" ".join(words) + "\n")
            case "true" | "false":
                return ExecResult(exit_code=int(name == "false"), stdout="")
            case _:
                return ExecResult(exit_code=127, stdout="", stderr=f"{name}: not found\n")

    def listen(self, tell: Callable[[str], None]) -> Subscription:
        self._listening.append(self._world.listen(tell))
        return self._listening[-1]

    def provenance(self, sandbox_ids: Collection[str]) -> Mapping[str, Provenance]:
        """What was done through the verbs below, as long as it was not undone."""
        with self._world.transaction() as things:
            origins = {name: _origin(things.get(name), self._world.removed.get(name)) for name in sandbox_ids}
        return {name: origin for name, origin in origins.items() if origin is not None}

    def place(self) -> str:
        return self._world.place

    def notes(self) -> Sequence[str]:
        if self._world.lasts:
            return ()
        return ("sandboxes in memory are gone when this command ends; `path:` keeps them in a file",)

    def check(self) -> Sequence[tuple[str, bool, str]]:
        try:
            count = len(self.observe())
        except (Permanent, Unavailable) as error:
            return (("world", False, error.message),)
        return (("world", True, f"{count} sandboxes"),)

    def close(self) -> None:
        for one in self._listening:
            one.close()
        self._listening.clear()

    # -- what happens behind the tool's back

    def kill(self, sandbox_id: str, detail: str = "exit code 137", cause: Cause = Cause.KILLED) -> None:
        """It dies, and is still there."""
        with self._existing(sandbox_id) as thing:
            thing.phase, thing.detail = Phase.FAILED.value, detail
            thing.cause, thing.caused_at = cause.value, self._now()
            thing.log.append(detail)

    def pause(self, sandbox_id: str) -> None:
        with self._existing(sandbox_id) as thing:
            thing.phase, thing.detail = Phase.PAUSED.value, "paused by hand"
            thing.cause, thing.caused_at = Cause.PAUSED.value, self._now()

    def alter(self, sandbox_id: str, path: str, value: Scalar) -> None:
        """A live attribute changes; None takes it away."""
        with self._existing(sandbox_id) as thing:
            if value is None:
                thing.flat.pop(path, None)
            else:
                thing.flat[path] = value
            if not thing.phase:
                thing.cause, thing.caused_at = Cause.EDITED.value, self._now()

    def remove(self, sandbox_id: str) -> None:
        """It is gone without a trace."""
        with self._world.transaction(changes=sandbox_id) as things:
            if things.pop(sandbox_id, None) is not None:
                self._world.removed[sandbox_id] = self._now()

    @contextlib.contextmanager
    def _existing(self, sandbox_id: str) -> Iterator[Thing]:
        with self._world.transaction(changes=sandbox_id) as things:
            if sandbox_id not in things:
                raise NotFound(f"there is no sandbox {sandbox_id}")
            yield things[sandbox_id]


def _undo(thing: Thing) -> None:
    """It runs again, as it was made."""
    thing.phase = thing.detail = thing.cause = ""
    thing.caused_at = None


def _origin(thing: Thing | None, removed: float | None) -> Provenance | None:
    if thing is None:
        return None if removed is None else Provenance(cause=Cause.REMOVED, at=removed)
    return (
        Provenance(cause=Cause(thing.cause), detail=thing.detail, at=thing.caused_at) if thing.cause else None
    )


def _say_nothing(sandbox_id: str, note: str) -> None:
    """Until somebody listens."""


def _open_world(name: str, path: str | None) -> World:
    return world(name, None if path is None else os.path.expanduser(path))


def _is_the_same(thing: Thing, owner: Owner | None, now: float) -> bool:
    """Whether it can be handed out again; False when it is ours and dead. Raises Conflict otherwise."""
    dead = thing.phase_at(now).is_dead
    check_owner(thing.sandbox_id, thing.owner, owner, dead=dead)
    return not dead


def _runs(phase: Phase) -> bool:
    return phase in (Phase.STARTING, Phase.READY, Phase.UNREADY)


def _seen(thing: Thing, now: float) -> ObservedSandbox:
    return ObservedSandbox(
        info=thing.info,
        phase=thing.phase_at(now),
        owner=thing.owner,
        attributes=dict(thing.flat),
        detail=thing.detail,
    )
