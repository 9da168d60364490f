"""Sandboxes that exist in memory only: for tests, for trying a configuration, for measuring the engine.

A complete backend all the same: what it declares it does. Worlds are shared by name within a process, and through a
JSON file between processes. Never holds a secret: a spec is kept in its canonical form.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from reconciler.backends.base import ExecResult, ProbeAnswer, SandboxBackend
from reconciler.backends.ownership import check_owner
from reconciler.errors import Conflict, NotFound, Permanent, Unavailable
from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import FlatSpec, Owner, ProbeKind, Readiness, SandboxSpec, Scalar
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo

_SANDBOX_ID = re.compile(r"[a-z0-9]([-a-z0-9]{0,49}[a-z0-9])?")
_FIRST_PORT = 20_000
_UPDATABLE = ("resources.cpu", "resources.memory", "resources.pids")


@dataclass(slots=True, kw_only=True)
class Thing:
    """One sandbox of a world. `phase` is empty while it simply runs: ready then depends on the time."""

    sandbox_id: str
    instance: str
    created_at: float
    ready_at: float
    owner: Owner | None = None
    flat: dict[str, Scalar] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    phase: str = ""
    detail: str = ""
    log: list[str] = field(default_factory=list)

    def phase_at(self, now: float) -> Phase:
        if self.phase:
            return Phase(self.phase)
        return Phase.READY if now >= self.ready_at else Phase.STARTING

    @property
    def info(self) -> SandboxInfo:
        return SandboxInfo(
            sandbox_id=self.sandbox_id,
            sandbox_url=f"memory://{self.sandbox_id}",
            container_name=self.sandbox_id,
            container_id=self.instance,
            created_at=self.created_at,
            ports=dict(self.ports),
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Thing:
        owner = data.pop("owner")
        return cls(**data, owner=None if owner is None else Owner(**owner))


class World:
    """Everything there is under one name. `transaction` is the only way in.

    With a file, that is a log of what changed, one JSON line a change, so that a change costs the same however many
    sandboxes there are.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._forget()

    @property
    def place(self) -> str:
        return self._path or ""

    @property
    def lasts(self) -> bool:
        return self._path is not None

    def _forget(self) -> None:
        self._things: dict[str, Thing] = {}
        self._free_port = _FIRST_PORT
        self._read_up_to = 0

    @contextlib.contextmanager
    def transaction(self, *, changes: str | None = None) -> Iterator[dict[str, Thing]]:
        """One at a time. `changes` is the id of the one sandbox that may change, None for a look."""
        with self._lock:
            if self._path is None:
                yield self._things
                return
            with _file_lock(self._path, exclusive=changes is not None):
                self._catch_up(self._path)
                try:
                    yield self._things
                except BaseException:
                    self._forget()  # what was changed half way is not in the file
                    raise
                if changes is not None:
                    self._append(self._path, changes)

    def publish(self, wanted: Mapping[str, int | None], things: Mapping[str, Thing]) -> dict[str, int]:
        """A port for each name, within a transaction. Raises Conflict for a fixed one that is taken."""
        published: dict[str, int] = {}
        for name, fixed in wanted.items():
            if fixed is not None and any(fixed in thing.ports.values() for thing in things.values()):
                raise Conflict(f"port {fixed} is taken", hint="use another, or `host: auto`")
            published[name] = self._free_port if fixed is None else fixed
            self._free_port = max(self._free_port, published[name] + 1)
        return published

    def _catch_up(self, path: str) -> None:
        """Take in what others wrote since. A last line without its end was never finished and does not count."""
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size < self._read_up_to:
                    self._forget()  # it was removed, and begun anew
                file.seek(self._read_up_to)
                news = file.read()
        except FileNotFoundError:
            self._forget()
            return
        except OSError as error:
            raise Unavailable(f"cannot read {path}: {error.strerror}") from error
        complete = news[: news.rfind(b"\n") + 1]
        unfinished = news[len(complete) :]
        try:
            for line in complete.splitlines():
                self._learn(*json.loads(line))
            if not unfinished.startswith(b'["'[: len(unfinished)]):
                raise ValueError("its end is nothing we wrote")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self._forget()
            raise Permanent(f"{path} is not a world of sandboxes: {error}", hint="remove it") from error
        self._read_up_to += len(complete)

    def _learn(self, sandbox_id: str, data: dict[str, Any] | None) -> None:
        if data is None:
            self._things.pop(sandbox_id, None)
            return
        thing = self._things[sandbox_id] = Thing.from_dict(data)
        self._free_port = max(self._free_port, *(port + 1 for port in thing.ports.values()), _FIRST_PORT)

    def _append(self, path: str, sandbox_id: str) -> None:
        thing = self._things.get(sandbox_id)
        line = json.dumps([sandbox_id, None if thing is None else asdict(thing)]).encode() + b"\n"
        try:
            with open(path, "ab") as file:
                file.truncate(self._read_up_to)
                file.write(line)
        except OSError as error:
            self._forget()
            raise Unavailable(f"cannot write {path}: {error.strerror}") from error
        self._read_up_to += len(line)


_WORLDS: dict[str, World] = {}
_WORLDS_LOCK = threading.Lock()


def world(name: str, path: str | None = None) -> World:
    """The world of that name, the same one every time; one with a file is known by its file."""
    key = f"file:{os.path.abspath(path)}" if path else f"name:{name}"
    with _WORLDS_LOCK:
        return _WORLDS.setdefault(key, World(os.path.abspath(path) if path else None))


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
        self._ready_seconds = float(ready_seconds)
        self._progress = (progress,) if isinstance(progress, str) else tuple(map(str, progress))
        self._say: Callable[[str, str], None] = _say_nothing
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
                    existing.phase = existing.detail = ""
                return existing.info
            things.pop(sandbox_id, None)
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
        flat = spec.canonical()
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
            return [_seen(thing, now) for _, thing in sorted(things.items())]

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
            thing.log.append("updated")
            return thing.info

    def restart(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        """It is ready as long after this as after a creation; its ports stay."""
        with self._existing(info.sandbox_id) as thing:
            thing.phase = thing.detail = ""
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

    # -- what happens behind the tool's back

    def kill(self, sandbox_id: str, detail: str = "exit code 137") -> None:
        """It dies, and is still there."""
        with self._existing(sandbox_id) as thing:
            thing.phase, thing.detail = Phase.FAILED.value, detail
            thing.log.append(detail)

    def pause(self, sandbox_id: str) -> None:
        with self._existing(sandbox_id) as thing:
            thing.phase, thing.detail = Phase.PAUSED.value, "paused by hand"

    def alter(self, sandbox_id: str, path: str, value: Scalar) -> None:
        """A live attribute changes; None takes it away."""
        with self._existing(sandbox_id) as thing:
            if value is None:
                thing.flat.pop(path, None)
            else:
                thing.flat[path] = value

    def remove(self, sandbox_id: str) -> None:
        """It is gone without a trace."""
        with self._world.transaction(changes=sandbox_id) as things:
            things.pop(sandbox_id, None)

    @contextlib.contextmanager
    def _existing(self, sandbox_id: str) -> Iterator[Thing]:
        with self._world.transaction(changes=sandbox_id) as things:
            if sandbox_id not in things:
                raise NotFound(f"there is no sandbox {sandbox_id}")
            yield things[sandbox_id]


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
        attributes=_attributes(thing),
        detail=thing.detail,
    )


def _attributes(thing: Thing) -> FlatSpec:
    return dict(sorted(thing.flat.items()))


@contextlib.contextmanager
def _file_lock(path: str, *, exclusive: bool) -> Iterator[None]:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = open(f"{path}.lock", "a", encoding="ascii")  # noqa: SIM115 - closed below
    except OSError as error:
        raise Unavailable(f"cannot lock {path}: {error.strerror}") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
