"""The one bare Python that forks the keepers of all starts that overlap.

It is there only while something is being started. Starting an interpreter takes ten times as long as forking one.
Whatever the system refuses is Unavailable.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence

from reconciler.backends.process.isolation import forkserver_script, python
from reconciler.errors import Unavailable

_LONGEST = 64  # bytes that the path of a sandbox is longer than the root, at most
_ENDS_WITHIN = 5.0  # seconds


class ForkServer:
    """For all threads of a process. `root` is where the sandboxes are."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._running: _Running | None = None
        self._begin()
        _ALL.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0

    def begin_anew(self) -> None:
        """In a fork of this process: who has the lock, and who holds it, are threads that are not there."""
        running, self._running = self._running, None
        self._begin()
        if running is not None:
            running.leave()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """It is started now, so that it is up by the time it is asked, and ended when nobody holds it any more."""
        with self._lock:
            if self._running is None:
                self._running = _Running(self._root)
            self._holders += 1
            counted = self._lock
        try:
            yield
        finally:
            if counted is self._lock:  # else this is a fork, where it counts no more
                self._let_go()

    def _let_go(self) -> None:
        with self._lock:
            self._holders -= 1
            left, self._running = (None, self._running) if self._holders else (self._running, None)
        if left is not None:
            left.end()

    def fork(self, descriptors: Sequence[int]) -> Callable[[], None]:
        """A keeper that gets these. Gives what makes sure that none comes of it any more, however late.
        To be called by a holder."""
        lost: _Running | None = None
        for _ in range(2):
            running = self._running_now(lost)
            if running.send(descriptors):
                return running.kill
            lost = running
        raise Unavailable(f"cannot start a process: what forks it was killed, twice{self.last_words()}")

    def last_words(self) -> str:
        """What it complained about, if anything, after a colon."""
        with self._lock:
            said = "" if self._running is None else self._running.complaint()
        return said and f": {said}"

    def _running_now(self, lost: _Running | None) -> _Running:
        with self._lock:
            if self._running is None or self._running is lost:
                if self._running is not None:
                    self._running.end()
                self._running = _Running(self._root)
            return self._running


class _Running:
    """Its process and our end of its socket."""

    def __init__(self, root: str) -> None:
        try:
            self._socket, theirs = socket.socketpair()
        except OSError as error:
            raise cannot_start(error.strerror) from error
        try:
            with theirs, _beyond_streams(theirs) as passed:
                self._process = _started(passed.fileno(), root)
        except BaseException as error:
            self._socket.close()
            if isinstance(error, OSError):
                raise cannot_start(error.strerror) from error
            raise

    def send(self, descriptors: Sequence[int]) -> bool:
        """False when it is gone: nothing comes of it then."""
        try:
            socket.send_fds(self._socket, [b"k"], descriptors)
        except ConnectionError:
            return False
        except OSError as error:
            raise cannot_start(error.strerror) from error
        return True

    def kill(self) -> None:
        self._process.kill()

    def leave(self) -> None:
        """To the process that this one is a fork of: without our end of the socket it ends with that one."""
        assert self._process.stderr is not None
        self._socket.close()
        self._process.stderr.close()
        self._process.returncode = 0  # it is no child of ours to wait for

    def complaint(self) -> str:
        """The last line of what it said, as far as it is there by now."""
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        said = self._process.stderr.read() or b""
        return said.decode("utf-8", "replace").strip().rpartition("\n")[2]

    def end(self) -> None:
        """It sees that nobody will ask any more; what was asked is done first."""
        with contextlib.suppress(OSError):  # it is gone already
            self._socket.shutdown(socket.SHUT_WR)  # also where a fork of this process has a copy
        self._socket.close()
        try:
            self._process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:  # somebody stopped it
            self._process.kill()
            self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()


def _started(fd: int, root: str) -> subprocess.Popen[bytes]:
    room = " " * (len(os.fsencode(root)) + _LONGEST)  # for what a keeper is called: see sandboxd/title.py
    return subprocess.Popen(
        [python(), "-I", "-S", forkserver_script(), str(fd), root, room],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
        env={"LC_ALL": "C.UTF-8", "PATH": os.defpath},
        pass_fds=(fd,),
        start_new_session=True,
    )


def _beyond_streams(theirs: socket.socket) -> socket.socket:
    """The same under another number than those that a child's streams get: it has one of them where ours are closed."""
    return socket.socket(fileno=fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 3))


def cannot_start(why: str | None) -> Unavailable:
    return Unavailable(f"cannot start a process: {why}", hint="too many of them, or no memory")


_ALL: weakref.WeakSet[ForkServer] = weakref.WeakSet()


def _begin_anew() -> None:
    for server in list(_ALL):
        server.begin_anew()


os.register_at_fork(after_in_child=_begin_anew)
