"""Which process is which, and how to end one. A process is known by its id, its start time and the boot: never by a
bare id, which the system gives to somebody else as soon as it is free."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from functools import cache

from msgspec import Struct

from reconciler.errors import Transient

_LINUX = os.path.exists("/proc/self/stat")
_GONE_STATES = frozenset("ZXx")
_PROGRAMS = (b"/sandboxd/keeper.py", b"/sandboxd/__main__.py")


class Process(Struct, frozen=True, kw_only=True):
    """`start` is field 22 of /proc/PID/stat, or what `ps -o lstart=` says where there is no /proc."""

    pid: int
    start: str
    boot: str = ""


@cache
def boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def boot_time() -> float | None:
    """Seconds since the epoch; None where the system does not say so."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            found = next(line for line in file if line.startswith("btime "))
    except (OSError, StopIteration):
        return None
    return float(found.split()[1])


def state_of(process: Process) -> str:
    """The state letter of exactly this process ("S", "R", "T", …); "" when it is gone or its id is another's."""
    if process.boot != boot_id() or process.pid <= 0 or not process.start:
        return ""
    state, start = _look(process.pid)
    return state if start == process.start and state not in _GONE_STATES else ""


def _look(pid: int) -> tuple[str, str]:
    """(state letter, start time), both "" for no such process."""
    if not _LINUX:
        return _look_ps(pid)
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except (FileNotFoundError, ProcessLookupError):
        return "", ""
    try:
        stat = os.read(fd, 4096)
    except ProcessLookupError:
        return "", ""
    finally:
        os.close(fd)
    fields = stat[stat.rfind(b")") + 2 :].split(b" ", 20)
    return fields[0].decode(), fields[19].decode()


def _look_ps(pid: int) -> tuple[str, str]:
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
        env={"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)},
    )
    words = answer.stdout.split()
    return (words[0][0], " ".join(words[1:])) if len(words) > 1 else ("", "")


def started(pid: int) -> Process:
    """This process as it runs now, for a record. An empty `start` when there is none."""
    return Process(pid=pid, start=_look(pid)[1], boot=boot_id())


def send(process: Process, number: int) -> bool:
    """A signal to exactly this process; False when it is gone. Never reaches a process that took over its id."""
    if not hasattr(os, "pidfd_open"):
        if not state_of(process):
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        return True
    try:
        fd = os.pidfd_open(process.pid)
    except (ProcessLookupError, OSError):
        return False
    try:
        if not state_of(process):  # looked at after the descriptor holds it: no other can slip in between
            return False
        signal.pidfd_send_signal(fd, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)


def wait_gone(process: Process, seconds: float) -> bool:
    """True as soon as it is gone, False when it still is there after so long."""
    deadline = time.monotonic() + seconds
    fd = -1
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(process.pid)
    try:
        while state_of(process):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if fd >= 0:
                poller = select.poll()
                poller.register(fd, select.POLLIN)
                poller.poll(min(left, 0.5) * 1000)
            else:
                time.sleep(min(left, 0.01))
        return True
    finally:
        if fd >= 0:
            os.close(fd)


def belongs(process: Process, marker: str, directory: str) -> bool:
    """Whether it is of this sandbox, or descends from what is: a record that names somebody else's process, with its
    start time even, must not end it. True where the system does not tell."""
    if not _LINUX:
        return True
    pid, seen = process.pid, set[int]()
    while pid > 1 and pid not in seen:
        seen.add(pid)
        if _has_variable(str(pid), marker.encode()) or _serves(str(pid), directory.encode()):
            return True
        pid = _parent(pid)
    return False


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:  # gone
        return 0
    return int(stat[stat.rfind(b")") + 2 :].split(b" ", 2)[1])


def carrying(marker: str, directory: str) -> list[Process]:
    """Every process of a sandbox, found without a record: its environment holds `marker` ("NAME=value"), or it is a
    program of ours started for `directory` (a server hides its environment). Costs a look at each process."""
    if not _LINUX:
        return []
    found = [
        started(int(name))
        for name in os.listdir("/proc")
        if name.isdigit() and (_has_variable(name, marker.encode()) or _serves(name, directory.encode()))
    ]
    return [process for process in found if state_of(process)]


def _has_variable(pid: str, marker: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return marker in file.read().split(b"\0")
    except OSError:  # gone, or another user's
        return False


def _serves(pid: str, directory: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return False
    ours = any(word.endswith(_PROGRAMS) for word in words)
    return ours and (directory in words or directory + b"/workspace" in words)


def kill_carrying(marker: str, directory: str, seconds: float = 5.0) -> None:
    """Until none is left, whatever they fork meanwhile. Raises Transient when some cannot be ended."""
    deadline = time.monotonic() + seconds
    while left := carrying(marker, directory):
        for process in left:
            send(process, signal.SIGKILL)
        for process in left:
            wait_gone(process, max(0.0, deadline - time.monotonic()))
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in left)
            raise Transient(f"processes {pids} of the sandbox do not end", retry_after=1.0)
