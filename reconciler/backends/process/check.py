"""For `doctor`: whether sandboxes can be kept here, and what is wrong with those that are. Changes nothing but that it
makes the root where there is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from reconciler.backends.process import processes
from reconciler.backends.process.isolation import python
from reconciler.backends.process.records import Directory
from reconciler.errors import BackendError
from reconciler.model.observed import ObservedSandbox, Phase

Look = Callable[[str], ObservedSandbox | None]
Row = tuple[str, bool, str]


def check(directory: Directory, look: Look) -> Sequence[Row]:
    """(what was checked, is it well, detail) of the root, the records and the interpreter. Raises nothing."""
    path = python()
    return (_root(directory), *_records(directory, look), ("python", os.access(path, os.X_OK), path))


def _root(directory: Directory) -> Row:
    root = directory.root
    try:
        directory.make_root()
    except BackendError as error:
        return ("state directory", False, f"{error.message}: {error.hint}")
    if os.access(root, os.R_OK | os.W_OK | os.X_OK):
        return ("state directory", True, root)
    return ("state directory", False, f"{root} is not writable: fix its permissions or set `root`")


def _records(directory: Directory, look: Look) -> Sequence[Row]:
    """One line for each that is broken; one for all when none is."""
    try:
        ids = directory.ids()
    except BackendError as error:
        return (("records", False, f"{error.message}: {error.hint}"),)
    broken = [("records", False, trouble) for name in ids if (trouble := _trouble(directory, look, name))]
    return broken or (("records", True, f"{len(ids)} under {directory.root}"),)


def _trouble(directory: Directory, look: Look, sandbox_id: str) -> str:
    """What is wrong with its record and what to do; "" when nothing is, or when it is not ours to judge."""
    try:
        seen = look(sandbox_id)
    except BackendError as error:
        return f"{error.message}: {_running(directory, sandbox_id)}{error.hint}"
    if seen is None or seen.phase is not Phase.UNKNOWN or not seen.info.container_id:
        return ""
    return f"{seen.detail}: destroy sandbox {sandbox_id}, which finds its processes without it"


def _running(directory: Directory, sandbox_id: str) -> str:
    try:
        found = directory.processes(sandbox_id)
    except BackendError:
        return "its process.json cannot be read either; "
    if found is None:
        return "it has no process.json; "
    named = {"keeper": found.keeper, "main": found.main, "server": found.server}
    left = [f"{name} {one.pid}" for name, one in named.items() if one and processes.state_of(one)]
    return f"still running: {', '.join(left)}; " if left else "none of its processes runs; "
