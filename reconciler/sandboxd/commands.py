"""Commands in sessions: started, watched, bounded, killed as a group. Knows nothing of HTTP.

A session keeps its working directory from one command to the next and runs one command at a time. Output is kept up
to a bound; what comes later is counted and dropped, so that no command can fill the memory of the server.
"""

from __future__ import annotations

import os
import signal
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO

KEEP_BYTES = 4 * 1024 * 1024
MAX_SESSIONS = 256
_GRACE = 0.05  # seconds for output still on its way when the command has ended
_STOP_GRACE = 0.2  # seconds between SIGTERM and SIGKILL when the server stops
# The command is an argument, never part of the script: quoting cannot go wrong. The trap tells where `cd` led.
_SCRIPT = 'trap "{ pwd >/dev/fd/$1; } 2>/dev/null" EXIT; eval "shift 2\n$2"'


class SessionBusy(Exception):
    """The session runs a command already."""


class SessionMissing(Exception):
    """No session of that id."""


class Output:
    """Bytes as they come, up to KEEP_BYTES."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.dropped = 0

    def add(self, chunk: bytes) -> None:
        room = max(0, KEEP_BYTES - len(self.data))
        self.data += chunk[:room]
        self.dropped += len(chunk) - len(chunk[:room])

    def text(self, offset: int = 0) -> str:
        text = bytes(self.data[offset:]).decode("utf-8", "replace")
        return f"{text}\n[{self.dropped} more bytes were dropped]\n" if self.dropped else text


class Command:
    """One running or finished command. `status` is running, completed, timed_out or killed."""

    def __init__(
        self, number: int, text: str, *, cwd: str, env: Mapping[str, str], merge: bool, feed: bool
    ) -> None:
        import subprocess  # 10 ms that a sandbox pays with its first command, not at its start

        self.id = f"cmd-{number}"
        self.text = text
        self.status = "running"
        self.exit_code: int | None = None
        self.cwd_after: str | None = None
        self.stdout, self.stderr = Output(), Output()
        self.changed = threading.Condition()
        cwd_read, cwd_write = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*shell(), _SCRIPT, "sh", str(cwd_write), text],
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if merge else subprocess.PIPE,
                pass_fds=(cwd_write,),
                start_new_session=True,
            )
        except BaseException:
            os.close(cwd_read)
            raise
        finally:
            os.close(cwd_write)
        threading.Thread(target=self._watch, args=(cwd_read,), daemon=True).start()

    def _watch(self, cwd_read: int) -> None:
        process = self._process
        readers = []
        for stream, output in ((process.stdout, self.stdout), (process.stderr, self.stderr)):
            if stream is not None:
                fd = os.dup(stream.fileno())
                stream.close()
                readers.append(threading.Thread(target=self._drain, args=(fd, output), daemon=True))
                readers[-1].start()
        code = process.wait()
        for reader in readers:
            reader.join(_GRACE)  # a background child may hold the pipe for ever: that is its right
        self.cwd_after = _last_line(cwd_read)
        with self.changed:
            self.exit_code = code if code >= 0 else 128 - code
            if self.status == "running":
                self.status = "completed"
            if process.stdin is not None:
                _close(process.stdin)
            self.changed.notify_all()

    def _drain(self, fd: int, output: Output) -> None:
        """To the end, which comes when the last process that holds the pipe is gone."""
        try:
            while chunk := os.read(fd, 64 * 1024):
                with self.changed:
                    output.add(chunk)
                    self.changed.notify_all()
        finally:
            os.close(fd)

    @property
    def running(self) -> bool:
        return self.exit_code is None

    @property
    def size(self) -> int:
        return len(self.stdout.data) + len(self.stderr.data) + self.stdout.dropped + self.stderr.dropped

    def wait(self, timeout: float | None, *, hard: float | None = None, quiet: float | None = None) -> str:
        """Until it ends. Seconds: `timeout` only stops waiting, `hard` kills it, `quiet` stops waiting when no
        output came for so long. Answers completed, timed_out, killed, running or quiet."""
        start = last = time.monotonic()
        with self.changed:
            size = self.size
            while self.running:
                now = time.monotonic()
                if self.size != size:
                    size, last = self.size, now
                if hard is not None and now - start >= hard:
                    self._kill_for_time()
                    break
                if timeout is not None and now - start >= timeout:
                    return "running"
                if quiet is not None and now - last >= quiet:
                    return "quiet"
                ends = [
                    end
                    for end in (
                        None if hard is None else start + hard,
                        None if timeout is None else start + timeout,
                        None if quiet is None else last + quiet,
                    )
                    if end is not None
                ]
                self.changed.wait(max(0.0, min(ends) - now) if ends else None)
            while self.running:
                self.changed.wait()
        return self.status

    def _kill_for_time(self) -> None:
        self.status = "timed_out"
        self.send(signal.SIGKILL)

    def kill(self, number: int = signal.SIGKILL) -> None:
        with self.changed:
            if self.running:
                self.status = "killed" if number in (signal.SIGKILL, signal.SIGTERM) else self.status
                self.send(number)

    def send(self, number: int) -> None:
        """To the whole process group. The leader is not reaped while `exit_code` is None, so the id is still its."""
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return

    def feed(self, text: str) -> bool:
        """False when the command reads no input: only commands started in the background do."""
        with self.changed:
            if self._process.stdin is None or not self.running:
                return False
            fd = os.dup(self._process.stdin.fileno())
        try:
            os.write(fd, text.encode())  # may wait for a command that does not read: without the lock, then
        except OSError:
            return False
        finally:
            os.close(fd)
        return True


class Session:
    """A working directory and the commands run in it, the latest last."""

    def __init__(self, session_id: str, cwd: str) -> None:
        self.id = session_id
        self.cwd = cwd
        self.created = self.used = time.time()
        self.count = 0
        self.last: Command | None = None
        self._lock = threading.Lock()

    def run(
        self, text: str, *, cwd: str | None, env: Mapping[str, str], merge: bool, feed: bool = False
    ) -> Command:
        """Starts it. Raises SessionBusy, OSError when it cannot be started."""
        with self._lock:
            if self.last is not None:
                if self.last.running:
                    raise SessionBusy(self.id)
                self.adopt_cwd()
            if cwd is not None:
                self.cwd = cwd
            self.count += 1
            self.used = time.time()
            self.last = Command(self.count, text, cwd=self.cwd, env=env, merge=merge, feed=feed)
            return self.last

    def adopt_cwd(self) -> str:
        after = None if self.last is None else self.last.cwd_after
        if after and os.path.isdir(after):
            self.cwd = after
        return self.cwd


class Sessions:
    """Every session of one kind, by id. The oldest idle one goes when there are too many."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def open(self, session_id: str | None = None, cwd: str | None = None) -> Session:
        with self._lock:
            if session_id is None:
                session_id = os.urandom(8).hex()
            if session_id not in self._sessions:
                self._make_room()
                self._sessions[session_id] = Session(session_id, cwd or self._home)
            return self._sessions[session_id]

    def _make_room(self) -> None:
        while len(self._sessions) >= MAX_SESSIONS:
            idle = [s for s in self._sessions.values() if s.last is None or not s.last.running]
            if not idle:
                raise SessionBusy(f"all {MAX_SESSIONS} sessions run a command")
            del self._sessions[min(idle, key=lambda session: session.used).id]

    def get(self, session_id: str) -> Session:
        with self._lock:
            if session_id not in self._sessions:
                raise SessionMissing(session_id)
            return self._sessions[session_id]

    def all(self) -> list[Session]:
        with self._lock:
            return list(self._sessions.values())

    def close(self, session_id: str) -> None:
        session = self.get(session_id)
        if session.last is not None:
            session.last.kill()
        with self._lock:
            self._sessions.pop(session_id, None)

    def stop(self) -> None:
        """Every running command is asked to end, then made to."""
        running = [s.last for s in self.all() if s.last is not None and s.last.running]
        for command in running:
            command.kill(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_GRACE
        for command in running:
            command.wait(max(0.0, deadline - time.monotonic()))
            command.kill(signal.SIGKILL)


def shell() -> list[str]:
    """bash where there is one, as in the AIO image; else the POSIX shell."""
    for path in ("/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"):
        if os.access(path, os.X_OK):
            return [path, "-c"]
    return ["/bin/sh", "-c"]


def _close(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except OSError:  # what was still to be written has no reader any more
        return


def _last_line(fd: int) -> str | None:
    """What the trap wrote, if it came to that; never waits, as a background child may hold the other end."""
    os.set_blocking(fd, False)
    try:
        text = os.read(fd, 16 * 1024).decode("utf-8", "surrogateescape").rstrip("\n")
        return text.rpartition("\n")[2] or None
    except OSError:
        return None
    finally:
        os.close(fd)
