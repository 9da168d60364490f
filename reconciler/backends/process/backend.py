"""`ProcessBackend`: the verbs, in terms of records, processes and launches.

Only what has a record of ours is ever ended or removed. Reading never takes a lock and never changes anything.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from reconciler.backends.base import ExecResult, ProbeAnswer, SandboxBackend, Subscription
from reconciler.backends.own_deeds import OwnDeeds
from reconciler.backends.ownership import check_owner
from reconciler.backends.process import processes
from reconciler.backends.process.check import check
from reconciler.backends.process.end import end
from reconciler.backends.process.forkserver import ForkServer
from reconciler.backends.process.isolation import Bubblewrap, capabilities, find_bubblewrap
from reconciler.backends.process.launch import Order, check_secrets, listen, listen_again, start, user_ids
from reconciler.backends.process.look import attributes_of, info_of, phase_of, reach
from reconciler.backends.process.records import (
    Directory,
    Record,
    memory_dir,
    read_text,
    storage_errors,
    with_labels,
)
from reconciler.errors import (
    BackendError,
    ConfigError,
    Conflict,
    NotFound,
    Permanent,
    Transient,
    Unsupported,
)
from reconciler.model.capabilities import Support
from reconciler.model.desired import Mount, MountKind, Port, ProbeKind, Readiness, SandboxSpec
from reconciler.model.drift import Provenance
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo, Usage

if TYPE_CHECKING:
    from reconciler.backends.process.events import ProcessEvents

_SETTLES = 0.25  # seconds that a listing waits for what is being worked on
_LOOK = 0.01  # seconds between two looks meanwhile
_NO_BOUNDARY = (
    "sandboxes run as plain processes of this user: this is no security boundary. "
    "Install bubblewrap (bwrap) for isolation, or use the docker backend."
)


def _nothing(point: str) -> None:
    """The default `checkpoint`."""


class ProcessBackend(SandboxBackend):
    """Sandboxes as detached processes of this machine.

    `root` is where they are kept (default `$XDG_STATE_HOME/reconciler/process`). `isolation` is auto, bubblewrap or
    none; auto falls back to none where bubblewrap does not work. `grace` is how long a sandbox may take to end by
    itself, `lock_timeout` how long to wait for another process working on the same sandbox, both in seconds.
    `checkpoint` is called with the name of each step of a creation or a restart, for tests that die there.
    """

    def __init__(
        self,
        root: str | None = None,
        isolation: str = "auto",
        *,
        grace: float = 2.0,
        lock_timeout: float = 30.0,
        checkpoint: Callable[[str], None] = _nothing,
    ) -> None:
        if isolation not in ("auto", "bubblewrap", "none"):
            raise ConfigError(f"isolation {isolation!r} is not known", hint="use auto, bubblewrap or none")
        self._directory = Directory(os.path.abspath(os.path.expanduser(root or _default_root())))
        self._wanted = isolation
        self._grace = grace
        self._lock_timeout = lock_timeout
        self._checkpoint = checkpoint
        self._deeds = OwnDeeds()
        self._forks = ForkServer(self._directory.root)
        self._listening: list[ProcessEvents] = []
        found = Bubblewrap(path="", detail="switched off") if isolation == "none" else find_bubblewrap()
        if isolation == "bubblewrap" and not found.path:
            raise Permanent(found.detail, hint="install bubblewrap, or use `isolation: auto`")
        self._bubblewrap = found
        # What holds depends on the machine, so it is the object's, not the class's.
        self.__dict__["capabilities"] = capabilities(bool(found.path), found.counts_processes)

    @property
    def root(self) -> str:
        return self._directory.root

    @property
    def isolation(self) -> str:
        """What is in force: bubblewrap or none."""
        return "bubblewrap" if self._bubblewrap.path else "none"

    def place(self) -> str:
        """The root: two runs with the same one see the same sandboxes."""
        return os.path.abspath(self.root)

    def notes(self) -> tuple[str, ...]:
        """What a user must know, said once."""
        if self._bubblewrap.path:
            return ()
        reason = "" if self._wanted == "none" else f" ({self._bubblewrap.detail})"
        return (_NO_BOUNDARY + reason,)

    # -- create

    def create(
        self,
        thread_id: str | None,
        sandbox_id: str,
        extra_mounts: list[tuple[str, str, bool]] | None = None,
        *,
        spec: SandboxSpec | None = None,
    ) -> SandboxInfo:
        spec = spec or SandboxSpec()
        extra = tuple(extra_mounts or ())
        mounts = self._mounts(spec, extra)
        with self._writing(sandbox_id, "create") as lock_fd:
            self._checkpoint("locked")
            existing = self._reusable(sandbox_id, spec)
            if existing is not None:
                return existing
            try:
                thread = thread_id if thread_id is not None else spec.thread_id
                return self._start(thread, sandbox_id, spec, extra, mounts, lock_fd)
            except BaseException:
                self._clear(sandbox_id)
                raise

    def _mounts(self, spec: SandboxSpec, extra: Sequence[tuple[str, str, bool]]) -> Sequence[Mount]:
        """What will be mounted. Raises Unsupported for what cannot be held, Permanent for a source that is not there."""
        added = [Mount(source=s, target=t, read_only=r) for s, t, r in extra]
        mounts = [mount for mount in (*spec.mounts, *added) if mount.kind is not MountKind.VOLUME]
        self._refuse_unheld(spec, added)
        for mount in mounts:
            if mount.kind is MountKind.BIND and not os.path.exists(mount.source):
                raise Permanent(
                    f"mount source {mount.source} is not there", hint="create it, or fix the path"
                )
        return mounts

    @contextlib.contextmanager
    def _writing(self, sandbox_id: str, verb: str) -> Iterator[int]:
        """Under its lock; what the file system refuses is an answer of the backend's tree."""
        with (
            self._deeds.doing(sandbox_id, verb),
            storage_errors("write", self.root),
            self._directory.locked(sandbox_id, self._lock_timeout) as lock_fd,
        ):
            yield lock_fd

    def _reusable(self, sandbox_id: str, spec: SandboxSpec) -> SandboxInfo | None:
        """The sandbox that is there already and is the one meant; what is dead of ours is cleared away."""
        record = self._directory.record(sandbox_id)
        if record is None:
            return None
        phase, _ = phase_of(self._directory, sandbox_id, locked=True)
        check_owner(sandbox_id, record.owner, spec.owner, dead=phase.is_dead)
        if phase.is_dead:
            self._clear(sandbox_id)
            return None
        if phase is Phase.PAUSED:
            self._resume(sandbox_id)
        return info_of(record)

    def _resume(self, sandbox_id: str) -> None:
        found = self._directory.processes(sandbox_id)
        for process in () if found is None else (found.keeper, found.main, found.server):
            if process is not None:
                processes.send(process, signal.SIGCONT)

    def _start(
        self,
        thread_id: str | None,
        sandbox_id: str,
        spec: SandboxSpec,
        extra: tuple[tuple[str, str, bool], ...],
        mounts: Sequence[Mount],
        lock_fd: int,
    ) -> SandboxInfo:
        port = _http_port(spec)
        host = "127.0.0.1" if port is None else port.bind
        with self._forks.held(), listen(host, None if port is None else port.host) as listening:
            instance, key = os.urandom(8).hex(), os.urandom(24).hex()
            record = Record(
                sandbox_id=sandbox_id,
                instance=instance,
                created_at=time.time(),
                host=host,
                port=listening.getsockname()[1],
                isolation=self.isolation,
                owner=spec.owner,
                thread_id=thread_id,
                labels=dict(spec.labels),
                spec=dict(spec.canonical()),
                secret_dir=self._secret_dir(sandbox_id, instance),
                extra_mounts=extra,
            )
            self._directory.place(record, key)
            return self._launch(record, key, spec, mounts, listening, lock_fd)

    def _launch(
        self,
        record: Record,
        key: str,
        spec: SandboxSpec,
        mounts: Sequence[Mount],
        listening: socket.socket,
        lock_fd: int,
    ) -> SandboxInfo:
        """From what is recorded to what runs."""
        self._checkpoint("recorded")
        order = Order(
            record=record,
            spec=spec,
            mounts=mounts,
            directory=self._directory.path(record.sandbox_id),
            key=key,
            bubblewrap=self._bubblewrap,
            grace=self._grace,
            timeout=10.0,
        )
        start(order, listening, lock_fd, self._forks, self._checkpoint)
        self._checkpoint("started")
        return info_of(record)

    def _secret_dir(self, sandbox_id: str, instance: str) -> str:
        """Without bubblewrap: in memory where there is /dev/shm, else beside the record."""
        if self._bubblewrap.path:
            return ""
        if os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK):  # noqa: S108 - 0700 and unguessable
            return memory_dir(instance)
        return self._directory.path(sandbox_id, "secrets")

    def _refuse_unheld(self, spec: SandboxSpec, extra: Sequence[Mount]) -> None:
        """Planning says it earlier and better; a plain caller must not get less than asked for either."""
        if self._bubblewrap.path:
            user_ids(spec.security.user)
        wanted = dict(spec.canonical())
        wanted.update({f"mounts.{mount.target}.source": mount.source for mount in extra})
        refused = [
            path
            for path, value in wanted.items()
            if self.capabilities.support(path, value) is Support.REFUSED
        ]
        if refused and not spec.unsupported_warn:
            raise Unsupported(
                f"the process backend ({self.isolation} isolation) cannot hold {', '.join(refused)}",
                hint="use another backend, or leave it out; `unsupported: warn` runs the sandbox without it",
            )

    # -- restart

    def restart(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        """In its own directory, at the port it had where that is declared or still free. Killed half way it leaves one
        that runs or a dead one, each with all it held: what was noted of the run before is dead until the keeper, which
        has the lock until then, replaces it in one step."""
        with self._writing(info.sandbox_id, "restart") as lock_fd:
            self._checkpoint("locked")
            record = self._existing(info.sandbox_id)
            mounts = self._mounts(spec, record.extra_mounts)
            check_secrets(spec)
            key = read_text(self._directory.path(info.sandbox_id, "key"))
            end(self._directory, info.sandbox_id, self._grace)
            self._checkpoint("ended")
            try:
                return self._start_again(record, key, spec, mounts, lock_fd)
            except BaseException:
                end(self._directory, info.sandbox_id, self._grace)
                raise

    def _start_again(
        self, record: Record, key: str, spec: SandboxSpec, mounts: Sequence[Mount], lock_fd: int
    ) -> SandboxInfo:
        declared = _http_port(spec)
        asked_for = declared is not None and declared.host is not None
        with self._forks.held(), listen_again(record.host, record.port, asked_for=asked_for) as listening:
            again = replace(
                record,
                port=listening.getsockname()[1],
                isolation=self.isolation,
                secret_dir=self._secret_dir(record.sandbox_id, record.instance),
            )
            self._directory.forget_exit(
                record.sandbox_id
            )  # first: it would vouch for processes that come after it
            self._directory.rewrite(again)
            return self._launch(again, key, spec, mounts, listening, lock_fd)

    # -- destroy

    def destroy(self, info: SandboxInfo) -> None:
        with self._writing(info.sandbox_id, "destroy"):
            self._clear(info.sandbox_id)

    def _clear(self, sandbox_id: str) -> None:
        """End everything of it, make sure, remove it. Under its lock."""
        end(self._directory, sandbox_id, self._grace)
        self._directory.remove(sandbox_id)

    # -- look

    def is_alive(self, info: SandboxInfo) -> bool:
        return self._running(info.sandbox_id) is not None

    def discover(self, sandbox_id: str) -> SandboxInfo | None:
        record = self._running(sandbox_id)
        return None if record is None else info_of(record)

    def list_running(self) -> list[SandboxInfo]:
        return [seen.info for seen in self.observe() if seen.phase is Phase.STARTING]

    def _running(self, sandbox_id: str) -> Record | None:
        with storage_errors("read", self.root):
            record = self._directory.record(sandbox_id)
            if record is None or phase_of(self._directory, sandbox_id)[0] is not Phase.STARTING:
                return None
            return record

    def observe(self) -> Sequence[ObservedSandbox]:
        """Sorted by id. Raises Permanent, naming each of them, when records of ours cannot be read: whose they are
        is then unknown, and a listing without them would make them look absent."""
        seen: list[ObservedSandbox] = []
        broken: list[BackendError] = []
        for sandbox_id in self._directory.ids():
            try:
                found = self.look(sandbox_id)
            except BackendError as error:
                broken.append(error)
            else:
                seen += () if found is None else (found,)
        if broken:
            advice = "; ".join(dict.fromkeys(error.hint for error in broken if error.hint))
            raise Permanent("; ".join(error.message for error in broken), hint=advice) from broken[0]
        return self._settled(seen)

    def _settled(self, seen: list[ObservedSandbox]) -> list[ObservedSandbox]:
        """With a moment's patience for what somebody works on: what a killed run leaves is locked until the last of its
        children has noticed, and would be taken for something that is about to run."""
        deadline = time.monotonic() + _SETTLES
        while any(one.phase is Phase.PENDING for one in seen) and time.monotonic() < deadline:
            time.sleep(_LOOK)
            looks = [self.look(one.info.sandbox_id) if one.phase is Phase.PENDING else one for one in seen]
            seen = [one for one in looks if one is not None]
        return seen

    def look(self, sandbox_id: str) -> ObservedSandbox | None:
        """Something there that is not a sandbox of ours shows as phase unknown, owned by nobody."""
        try:
            record = self._directory.record(sandbox_id)
        except Conflict as error:
            stranger = SandboxInfo(sandbox_id=sandbox_id, sandbox_url="")
            return ObservedSandbox(info=stranger, phase=Phase.UNKNOWN, detail=error.message)
        if record is None:
            return None
        try:
            with storage_errors("read", self.root):
                phase, detail = phase_of(self._directory, sandbox_id)
        except BackendError as error:
            phase, detail = Phase.UNKNOWN, error.message
        return ObservedSandbox(
            info=info_of(record),
            phase=phase,
            owner=record.owner,
            attributes=attributes_of(record),
            detail=detail,
        )

    # -- optional abilities

    def update(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        with self._writing(info.sandbox_id, "update"):
            record = self._existing(info.sandbox_id)
            changed = with_labels(record, owner=spec.owner or record.owner, labels=spec.labels)
            self._directory.rewrite(changed)
            return info_of(changed)

    def request_headers(self, info: SandboxInfo) -> Mapping[str, str]:
        self._existing(info.sandbox_id)
        with storage_errors("read", self.root):
            return {"X-AIO-API-Key": read_text(self._directory.path(info.sandbox_id, "key"))}

    def probe(self, info: SandboxInfo, readiness: Readiness, timeout: float) -> ProbeAnswer | None:
        if readiness.kind is not ProbeKind.EXEC:
            return None
        try:
            result = self.exec(info, readiness.command, timeout=timeout)
        except NotFound as error:
            return ProbeAnswer(ready=False, dead=True, detail=error.message)
        except Transient as error:
            # a look that was cut short by the deadline says nothing that the one before did not
            return ProbeAnswer(ready=False, detail=error.message if timeout >= 1 else "")
        said = (result.stderr or result.stdout).strip()[-200:]
        return ProbeAnswer(ready=result.exit_code == 0, detail=f"exit code {result.exit_code} {said}".strip())

    def exec(self, info: SandboxInfo, command: Sequence[str], *, timeout: float = 60.0) -> ExecResult:
        """Through the sandbox's own API. Raises Transient when it takes longer than `timeout` seconds."""
        from reconciler.backends.process.request import run_command

        record = self._running(info.sandbox_id)
        if record is None:
            raise NotFound(f"sandbox {info.sandbox_id} is not running")
        return run_command(reach(record.host), record.port, self.request_headers(info), command, timeout)

    def usage(self, info: SandboxInfo) -> Usage | None:
        """Of everything that its keeper has started, on Linux."""
        from reconciler.backends.process.usage import usage_of

        found = self._directory.processes(info.sandbox_id)
        if found is None or not processes.state_of(found.keeper):
            raise NotFound(f"sandbox {info.sandbox_id} is not running")
        return usage_of(found.keeper.pid)

    def logs(self, info: SandboxInfo, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        """What keeper and server wrote. `follow` ends when the sandbox does."""
        self._existing(info.sandbox_id)
        path = self._directory.path(info.sandbox_id, "log")
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            file = open(fd, encoding="utf-8", errors="replace")  # noqa: SIM115 - closed by the generator
        except FileNotFoundError:
            return iter(())
        return self._lines(info, file, tail, follow)

    def _lines(
        self,
        info: SandboxInfo,
        file: contextlib.AbstractContextManager[Iterator[str]],
        tail: int | None,
        follow: bool,
    ) -> Iterator[str]:
        with file as lines:
            from collections import deque

            yield from (line.rstrip("\n") for line in deque(lines, maxlen=tail))
            while follow:
                alive = self._directory.record(info.sandbox_id) is not None and self.is_alive(info)
                for line in lines:
                    yield line.rstrip("\n")
                if not alive:
                    return
                time.sleep(0.1)

    def _existing(self, sandbox_id: str) -> Record:
        record = self._directory.record(sandbox_id)
        if record is None:
            raise NotFound(f"there is no sandbox {sandbox_id} under {self.root}")
        return record

    def listen(self, tell: Callable[[str], None]) -> Subscription:
        from reconciler.backends.process.events import ProcessEvents

        self._listening = [one for one in self._listening if not one.is_closed]
        self._listening.append(ProcessEvents(self._directory, tell))
        return self._listening[-1]

    def provenance(self, sandbox_ids: Collection[str]) -> Mapping[str, Provenance]:
        from reconciler.backends.process.provenance import origins

        return origins(self._directory, sandbox_ids, self._deeds)

    def check(self) -> Sequence[tuple[str, bool, str]]:
        """Tried for real, except that no sandbox is started."""
        isolation = (
            ("isolation", True, f"bubblewrap at {self._bubblewrap.path}")
            if self._bubblewrap.path
            else ("isolation", self._wanted == "none", self.notes()[0])
        )
        return (isolation, *check(self._directory, self.look))

    def close(self) -> None:
        for one in self._listening:
            one.close()


def _default_root() -> str:
    state = os.environ.get("XDG_STATE_HOME") or os.path.join("~", ".local", "state")
    return os.path.join(state, "reconciler", "process")


def _http_port(spec: SandboxSpec) -> Port | None:
    return next((port for port in spec.ports if port.name == "http"), None)
