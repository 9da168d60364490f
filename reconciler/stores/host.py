"""Who we are and whether another process still lives, so that a dead holder's lock can be told from a slow one.

Must never call a process dead that may be alive: whatever cannot be found out counts as alive.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from msgspec import Struct

_PS_TIMEOUT = 5.0  # seconds


class Host(Struct, frozen=True, kw_only=True):
    """This process on this machine.

    `boot` names one boot of one kernel and, on Linux, one pid namespace in it: pids are comparable only where it is
    equal; "" when that cannot be found out. `started(pid)` tells when that process began, in whatever unit the
    system has, None when it is definitely gone; it raises OSError when that cannot be found out.
    """

    name: str
    user: str
    pid: int
    boot: str
    started: Callable[[int], str | None]

    @property
    def who(self) -> str:
        return f"{self.user}@{self.name}"

    def began(self) -> str:
        """When this very process did; "" when that cannot be found out, and then only its pid tells whether it lives."""
        try:
            return self.started(self.pid) or ""
        except OSError:
            return ""

    def judges(self, *, name: str, boot: str) -> bool:
        """Whether a process that says this of its machine has its pid from the same place as ours."""
        return name == self.name and boot == self.boot != ""

    def ended(self, pid: int, *, began: str) -> bool:
        """Whether the process of that pid which began then ("": nobody knows when) is certainly gone."""
        try:
            started = self.started(pid)
        except OSError:
            return False
        return started is None or (began != "" and started != began)


def this_host() -> Host:
    return Host(
        name=os.uname().nodename, user=_user(), pid=os.getpid(), boot=_boot(), started=process_started
    )


def _user() -> str:
    try:
        import getpass

        return getpass.getuser()
    except (KeyError, OSError):  # a container often runs as a number without a name
        return str(os.getuid())


@cache
def _boot() -> str:
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "kern.bootsessionuuid") or ""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_started(pid: int) -> str | None:
    """When the process began; None when there is none of that pid, or only what a parent has not collected yet."""
    if os.path.exists("/proc/self/stat"):
        return _started_on_linux(pid)
    return _started_by_ps(pid)


def _started_on_linux(pid: int) -> str | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    state, start = fields[0], fields[19]  # fields 3 and 22 of proc(5)
    return None if state in "ZX" else start


def _started_by_ps(pid: int) -> str | None:
    text = _output("ps", "-o", "state=,lstart=", "-p", str(pid))
    if text is None:
        raise OSError("ps does not run")
    state, _, start = text.partition(" ")
    return None if not start or state.startswith("Z") else " ".join(start.split())


def _output(*command: str) -> str | None:
    """What it printed, stripped, whatever its exit status: `ps` fails for "no such process". None when it does not
    run at all."""
    import subprocess  # only macOS comes here, and start-up time counts

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_PS_TIMEOUT,
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            check=False,
        )
        return done.stdout.strip()
    return None
