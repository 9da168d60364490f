"""How a sandbox ends: asked first, then made to, and what nobody noted is looked for. Called under its lock."""

from __future__ import annotations

import signal
from collections.abc import Callable

from reconciler.backends.process import processes
from reconciler.backends.process.launch import MARKER
from reconciler.backends.process.records import Directory, Processes, remove_tree
from reconciler.errors import Permanent, Transient


def end(directory: Directory, sandbox_id: str, grace: float) -> None:
    """Returns when no process of it is left, nor a secret in a file; everything else it holds stays. `grace` is how
    long it may take by itself, in seconds. Raises Transient when some process cannot be ended."""
    record = directory.record(sandbox_id)
    if record is None:
        return
    marker, place = f"{MARKER}={record.instance}", directory.path(sandbox_id)
    _end_noted(directory, sandbox_id, grace, lambda process: processes.belongs(process, marker, place))
    if directory.exit_code(sandbox_id) is None:  # the keeper did not see to it
        processes.kill_carrying(marker, place)
    if record.secret_dir:
        remove_tree(record.secret_dir)


def _end_noted(
    directory: Directory, sandbox_id: str, grace: float, ours: Callable[[processes.Process], bool]
) -> None:
    try:
        found = directory.processes(sandbox_id)
    except Permanent:  # unreadable: the search for its processes that follows does not need it
        found = None
    if found is None or not all(ours(one) for one in _named(found) if processes.state_of(one)):
        return  # whoever wrote that, it was not the keeper
    processes.send(found.keeper, signal.SIGCONT)
    processes.send(found.keeper, signal.SIGTERM)
    if processes.wait_gone(found.keeper, grace + 3.0) and not _alive(found):
        return
    left = _named(found)
    for process in left:
        processes.send(process, signal.SIGKILL)
    for process in left:
        if not processes.wait_gone(process, 5.0):
            raise Transient(f"process {process.pid} of sandbox {sandbox_id} does not end", retry_after=1.0)


def _alive(found: Processes) -> bool:
    return any(processes.state_of(process) for process in (found.main, found.server) if process is not None)


def _named(found: Processes) -> list[processes.Process]:
    return [process for process in (found.server, found.main, found.keeper) if process is not None]
