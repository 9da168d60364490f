"""Deaths of sandboxes, and records that come and go, as hints. Reads only; takes no lock.

A sandbox is nobody's child, so no wait tells of its end. Linux does, through a descriptor of the process; elsewhere, and
for more sandboxes than this process may have descriptors, each is looked at twice a second. So is the root, by its
time stamp: new sandboxes are watched whoever makes them.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import threading
import time
from collections.abc import Callable

from reconciler.backends.process.processes import Process, state_of
from reconciler.backends.process.records import Directory, Processes
from reconciler.backends.subscriber import Subscriber, joined
from reconciler.errors import BackendError

_LOOK = 0.5  # seconds between two looks at what tells nothing by itself
_SETTLED = 0.1  # seconds after which a time stamp shows every change: file systems count in ticks
_ENDS_WITHIN = 2.0  # seconds to wait for the thread


class ProcessEvents:
    """A subscription. Raises when the root cannot be listed; one that is not there yet is empty. `most` is how many
    descriptors it may hold: half of what this process may have, unless it is given."""

    def __init__(self, directory: Directory, tell: Callable[[str], None], *, most: int | None = None) -> None:
        self._directory = directory
        self._subscriber = Subscriber(tell)
        self._watched: dict[str, _Watched] = {}
        self._root: object = None
        self._lost = False
        self._ends = _Ends(most)
        try:
            self._look(quietly=True)
        except BaseException:
            self._ends.close()
            raise
        self._thread = threading.Thread(target=self._run, name="process-events", daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        return self._subscriber.is_closed

    def close(self) -> None:
        if not self.is_closed:
            self._subscriber.close()
            self._ends.wake()
        joined(self._thread, _ENDS_WITHIN)

    def _run(self) -> None:
        next_look = time.monotonic() + _LOOK
        with contextlib.closing(self._ends):
            while not self.is_closed:
                for sandbox_id in self._ends.wait(next_look - time.monotonic()):
                    self._ended(sandbox_id)
                if time.monotonic() >= next_look and not self.is_closed:
                    self._look_again()
                    next_look = time.monotonic() + _LOOK

    def _look_again(self) -> None:
        lost = self._lost
        try:
            self._look()
            self._lost = False
        except BackendError:  # what cannot be listed now is said by whoever looks
            self._lost = True
        if lost != self._lost:
            self._subscriber("")

    def _look(self, *, quietly: bool = False) -> None:
        """The root if it changed, and every sandbox whose end nothing would tell. `quietly` tells nothing of it."""
        tell = _nothing if quietly else self._subscriber
        stamp = _stamp(self._directory.root)
        if stamp is None or stamp != self._root:
            self._root = None
            self._list(tell)
            self._root = stamp
        for sandbox_id, watched in list(self._watched.items()):
            if watched.is_unsettled and self._follow(sandbox_id, watched):
                tell(sandbox_id)

    def _list(self, tell: Callable[[str], None]) -> None:
        ids = set(self._directory.ids())
        for sandbox_id in sorted(self._watched.keys() - ids):
            self._ends.forget(sandbox_id)
            del self._watched[sandbox_id]
            tell(sandbox_id)
        for sandbox_id in sorted(ids - self._watched.keys()):
            self._watched[sandbox_id] = watched = _Watched()
            self._follow(sandbox_id, watched)
            tell(sandbox_id)

    def _follow(self, sandbox_id: str, watched: _Watched) -> bool:
        """Watch what is noted of it now. Whether it began or ended since the last look, as far as that was not told."""
        stamp = _stamp(self._directory.path(sandbox_id, "process.json"))
        if stamp is None or stamp != watched.stamp:
            watched.stamp = stamp
            watched.take(_noted(self._directory, sandbox_id))
            if watched.process is not None:
                watched.told_by_system = self._ends.watch(sandbox_id, watched.process)
        ran, watched.runs = watched.runs, watched.process is not None and bool(state_of(watched.process))
        return ran != watched.runs

    def _ended(self, sandbox_id: str) -> None:
        watched = self._watched[sandbox_id]
        watched.told_by_system = False
        self._follow(
            sandbox_id, watched
        )  # the process may be the jail's, and the record speak of the server by now
        self._subscriber(sandbox_id)


class _Watched:
    """What is known of one sandbox: the process whose end is its own, if one is noted."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self.serves = False
        self.runs = False
        self.told_by_system = False
        self.stamp: object = None

    def take(self, noted: Processes | None) -> None:
        self.process = None if noted is None else noted.server or noted.main
        self.serves = noted is not None and noted.server is not None

    @property
    def is_unsettled(self) -> bool:
        """Whether it has to be looked at: it is dead and may be started, does not serve yet, or ends unheard."""
        return not (self.runs and self.serves and self.told_by_system)


class _Ends:
    """Ends of processes, as the system tells them. `wake` may be called by any thread while it is open."""

    def __init__(self, most: int | None) -> None:
        self._fds: dict[str, int] = {}
        self._most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 if most is None else most
        self._waking, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._poller = select.poll()
        self._poller.register(self._waking, select.POLLIN)

    def watch(self, sandbox_id: str, process: Process) -> bool:
        """In the place of what was watched for this one; False when the system does not tell."""
        self.forget(sandbox_id)
        if not hasattr(os, "pidfd_open") or len(self._fds) >= self._most:
            return False
        try:
            fd = os.pidfd_open(process.pid)
        except OSError:  # gone, or no descriptor is left
            return False
        if not state_of(process):  # looked at after the descriptor holds it: the id may be another's by now
            os.close(fd)
            return False
        self._fds[sandbox_id] = fd
        self._poller.register(fd, select.POLLIN)
        return True

    def forget(self, sandbox_id: str) -> None:
        fd = self._fds.pop(sandbox_id, None)
        if fd is not None:
            self._poller.unregister(fd)
            os.close(fd)

    def wait(self, seconds: float) -> list[str]:
        """Whose process ended, as soon as one does; each is told once."""
        ready = {fd for fd, _ in self._poller.poll(max(0.0, seconds) * 1000)}
        ended = sorted(sandbox_id for sandbox_id, fd in self._fds.items() if fd in ready) if ready else []
        for sandbox_id in ended:
            self.forget(sandbox_id)
        return ended

    def wake(self) -> None:
        with contextlib.suppress(OSError):  # full, and so awake; or closed
            os.write(self._wake, b"x")

    def close(self) -> None:
        for sandbox_id in list(self._fds):
            self.forget(sandbox_id)
        os.close(self._waking)
        os.close(self._wake)


def _noted(directory: Directory, sandbox_id: str) -> Processes | None:
    """None also for what cannot be read: nothing to be watched by."""
    with contextlib.suppress(BackendError):
        return directory.processes(sandbox_id)
    return None


def _stamp(path: str) -> object:
    """What changes with every change of it; None when it is not there, or changed so lately that another change may not
    show."""
    try:
        seen = os.stat(path)
    except OSError:
        return None
    if 0 <= time.time() - seen.st_mtime < _SETTLED:
        return None
    return seen.st_ino, seen.st_mtime_ns


def _nothing(sandbox_id: str) -> None:
    """When nobody is to be told."""
