"""What memory backends share: worlds of sandboxes, by name within a process, and through a file between processes.

Must never hold a secret: a specification is kept in its canonical form.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Mapping

from msgspec import MsgspecError, Struct, field, json

from reconciler.backends.subscriber import Subscriber, joined
from reconciler.errors import BackendError, Conflict, Permanent, Unavailable
from reconciler.model.desired import Owner, Scalar
from reconciler.model.observed import Phase, SandboxInfo

_FIRST_PORT = 20_000
_CHECK = "check the disk that it is on: is there space, and is it writable?"
_LOOK = 0.05  # seconds between two looks at a file


class Thing(Struct, kw_only=True, forbid_unknown_fields=True):
    """One sandbox of a world. `phase` is empty while it simply runs: ready then depends on the time. `cause` is of what
    somebody did to it, "" when it is as it was made."""

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
    cause: str = ""
    caused_at: float | None = None

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


class _Change(Struct, array_like=True, forbid_unknown_fields=True):
    """A line of a world's file: what one sandbox is like since; None since it is gone, `removed` when by others."""

    sandbox_id: str
    thing: Thing | None
    removed: float | None = None


class World:
    """Everything there is under one name. `transaction` is the only way in.

    With a file, that is a log of what changed, one JSON line a change, so that a change costs the same however many
    sandboxes there are.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._subscribers: list[Subscriber] = []
        self._forget()

    @property
    def place(self) -> str:
        return self._path or ""

    @property
    def lasts(self) -> bool:
        return self._path is not None

    def _forget(self) -> None:
        self._things: dict[str, Thing] = {}
        self.removed: dict[
            str, float
        ] = {}  # when, by others than who made them; written within a transaction
        self._news: list[str] = []
        self._free_port = _FIRST_PORT
        self._read_up_to = 0

    @contextlib.contextmanager
    def transaction(self, *, changes: str | None = None) -> Iterator[dict[str, Thing]]:
        """One at a time. `changes` is the id of the one sandbox that may change, None for a look. Who listens is told
        afterwards of that one, and of what others wrote meanwhile."""
        with self._lock, self._current(changes) as things:
            yield things
            news, self._news = self._news, []
        for sandbox_id in dict.fromkeys([*news, *(() if changes is None else (changes,))]):
            for subscriber in tuple(self._subscribers):
                subscriber(sandbox_id)

    @contextlib.contextmanager
    def _current(self, changes: str | None) -> Iterator[dict[str, Thing]]:
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

    def listen(self, tell: Callable[[str], None]) -> WorldEvents:
        """Raises when what there is cannot be read."""
        with self.transaction():  # what is known already is no news
            pass
        made = WorldEvents(self, Subscriber(tell))
        self._subscribers.append(made.subscriber)
        return made

    def unlisten(self, subscriber: Subscriber) -> None:
        with contextlib.suppress(ValueError):  # a second time
            self._subscribers.remove(subscriber)

    def stamp(self) -> object:
        """What differs once others have written; None while there is nothing to tell by."""
        with contextlib.suppress(OSError):
            return self._path and os.stat(self._path).st_size
        return None

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
            raise Unavailable(f"cannot read {path}: {error.strerror}", hint=_CHECK) from error
        complete = news[: news.rfind(b"\n") + 1]
        unfinished = news[len(complete) :]
        try:
            for change in _CHANGE.decode_lines(complete):
                self._learn(change)
            if not unfinished.startswith(b'["'[: len(unfinished)]):
                raise ValueError("its end is nothing we wrote")
        except (MsgspecError, ValueError, RecursionError) as error:
            self._forget()
            raise Permanent(f"{path} is not a world of sandboxes: {error}", hint="remove it") from error
        self._read_up_to += len(complete)

    def _learn(self, change: _Change) -> None:
        sandbox_id, thing = change.sandbox_id, change.thing
        self._news.append(sandbox_id)
        self.removed.pop(sandbox_id, None)
        if thing is None:
            self._things.pop(sandbox_id, None)
            if change.removed is not None:
                self.removed[sandbox_id] = change.removed
            return
        self._things[sandbox_id] = thing
        for port in thing.ports.values():
            self._free_port = max(self._free_port, port + 1)

    def _append(self, path: str, sandbox_id: str) -> None:
        thing = self._things.get(sandbox_id)
        line = json.encode(_Change(sandbox_id, thing, self.removed.get(sandbox_id))) + b"\n"
        try:
            with open(path, "ab") as file:
                file.truncate(self._read_up_to)
                file.write(line)
        except OSError as error:
            self._forget()
            raise Unavailable(f"cannot write {path}: {error.strerror}", hint=_CHECK) from error
        self._read_up_to += len(line)


class WorldEvents:
    """A subscription. What this process does is told at once; what others do to a file, as soon as its size shows it."""

    def __init__(self, world: World, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self._world = world
        self._thread = threading.Thread(target=self._follow, name="world-events", daemon=True)
        if world.lasts:
            self._thread.start()

    def close(self) -> None:
        self.subscriber.close()
        self._world.unlisten(self.subscriber)
        if self._world.lasts:
            joined(self._thread, 2.0)

    def _follow(self) -> None:
        seen: object = None  # so that the first look takes in what came while this began
        while not self.subscriber.pause(_LOOK):
            before, seen = seen, self._world.stamp()
            if seen != before:
                with (
                    contextlib.suppress(BackendError),
                    self._world.transaction(),
                ):  # whoever looks is told what is wrong
                    pass


_CHANGE = json.Decoder(_Change)
_WORLDS: dict[str, World] = {}
_WORLDS_LOCK = threading.Lock()


def world(name: str, path: str | None = None) -> World:
    """The world of that name, the same one every time; one with a file is known by its file."""
    key = f"file:{os.path.abspath(path)}" if path else f"name:{name}"
    with _WORLDS_LOCK:
        return _WORLDS.setdefault(key, World(os.path.abspath(path) if path else None))


@contextlib.contextmanager
def _file_lock(path: str, *, exclusive: bool) -> Iterator[None]:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = open(f"{path}.lock", "ab")  # noqa: SIM115 - closed below
    except OSError as error:
        raise Unavailable(f"cannot lock {path}: {error.strerror}", hint=_CHECK) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
