"""How a sandbox came to be as it is: what its keeper noted of its end, and what is missing. Reads only.

A keeper notes an exit code, not who sent a signal; and there is no record of who removed a directory.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping

from reconciler.backends.own_deeds import ENDING, OwnDeeds
from reconciler.backends.process.look import exit_detail
from reconciler.backends.process.processes import boot_id, boot_time, state_of, wait_gone
from reconciler.backends.process.records import Directory, Processes
from reconciler.errors import BackendError
from reconciler.model.drift import Cause, Provenance

_NOTED_WITHIN = 0.5  # seconds, for all of them: a keeper cleans up before it notes how its sandbox ended
_SIGKILL = 128 + 9
# As a server ends that was asked to, or before it could hear: by itself it never does.
_ASKED = (0, 128 + 1, 128 + 2, 128 + 15)


def origins(directory: Directory, sandbox_ids: Collection[str], deeds: OwnDeeds) -> Mapping[str, Provenance]:
    """By sandbox id; what nobody knows, and what this object did itself, is left out."""
    deadline = time.monotonic() + _NOTED_WITHIN
    found: dict[str, Provenance] = {}
    for sandbox_id in sorted(sandbox_ids):
        with contextlib.suppress(BackendError):  # a record that cannot be read tells nothing
            origin = _origin(directory, sandbox_id, deeds, deadline)
            if origin is not None:
                found[sandbox_id] = origin
    return found


def _origin(directory: Directory, sandbox_id: str, deeds: OwnDeeds, deadline: float) -> Provenance | None:
    if directory.record(sandbox_id) is None:
        last = deeds.last(sandbox_id)
        if last is not None and last.verb == "destroy":
            return None
        return Provenance(cause=Cause.REMOVED, detail=f"{directory.path(sandbox_id)} is gone")
    noted = directory.processes(sandbox_id)
    if noted is None:
        interrupted = not directory.is_locked(sandbox_id) and directory.processes(sandbox_id) is None
        return Provenance(cause=Cause.INTERRUPTED, detail="it was never started") if interrupted else None
    state = state_of(noted.server or noted.main)
    if state in ("T", "t"):
        return Provenance(cause=Cause.PAUSED, detail="its processes are stopped by a signal (SIGSTOP)")
    return None if state else _end(directory, sandbox_id, noted, deeds, deadline)


def _end(
    directory: Directory, sandbox_id: str, noted: Processes, deeds: OwnDeeds, deadline: float
) -> Provenance | None:
    ended = directory.exit(sandbox_id)
    if ended is None and noted.main.boot != boot_id():
        return Provenance(
            cause=Cause.HOST_RESTARTED, detail="it ran before the machine's last start", at=boot_time()
        )
    if ended is None:
        wait_gone(noted.keeper, max(0.0, deadline - time.monotonic()))
        ended = directory.exit(sandbox_id)
    if ended is None:
        return None if _by_us(sandbox_id, deeds) else _unnoted(noted)
    code, at = ended
    if at is not None and deeds.covers(sandbox_id, at, ENDING):
        return None
    cause, more = _by_code(code)
    return Provenance(cause=cause, detail=exit_detail(code) + more, at=at)


def _by_us(sandbox_id: str, deeds: OwnDeeds) -> bool:
    """Whether this object is just ending it, or did and came no further."""
    last = deeds.last(sandbox_id)
    return last is not None and last.verb in ENDING and (last.failed or last.ended >= time.time())


def _unnoted(noted: Processes) -> Provenance | None:
    """A keeper that ends leaves a note of how its sandbox did, unless it is killed: the sandbox goes with it."""
    if state_of(noted.keeper):
        return None
    return Provenance(cause=Cause.KILLED, detail="its keeper was killed with it, and left no exit code")


def _by_code(code: int) -> tuple[Cause, str]:
    if code == _SIGKILL:
        return Cause.KILLED, "; when memory ran out the kernel does so too"
    return (Cause.STOPPED, "; it was asked to end") if code in _ASKED else (Cause.CRASHED, "")
