"""What a record and its processes amount to: phase, connection details, attributes. Reads only, takes no lock."""

from __future__ import annotations

import contextlib
import signal

from reconciler.backends.process import processes
from reconciler.backends.process.records import Directory, Record
from reconciler.model.desired import FlatSpec
from reconciler.model.observed import Phase, SandboxInfo


def phase_of(directory: Directory, sandbox_id: str, *, locked: bool = False) -> tuple[Phase, str]:
    """The phase, and for people what it does not say. `locked` when the caller holds the lock: then nobody else is
    at work on it."""
    found = directory.processes(sandbox_id)
    if found is None:
        if not locked and directory.is_locked(sandbox_id):
            return Phase.PENDING, "being worked on"
        if directory.processes(sandbox_id) is not None:  # finished between the two looks
            return phase_of(directory, sandbox_id, locked=locked)
        return Phase.FAILED, "its creation was interrupted"
    state = processes.state_of(found.server or found.main)  # the innermost: gone first, stopped when it is
    if state == "":
        code = directory.exit_code(sandbox_id)
        return Phase.FAILED, "process is gone" if code is None else exit_detail(code)
    return (Phase.PAUSED, "stopped by a signal") if state in "Tt" else (Phase.STARTING, "")


def reach(host: str) -> str:
    """Where a client on this machine finds a server bound to `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read here, not bound


def info_of(record: Record) -> SandboxInfo:
    host = reach(record.host)
    return SandboxInfo(
        sandbox_id=record.sandbox_id,
        sandbox_url=f"http://{f'[{host}]' if ':' in host else host}:{record.port}",
        container_name=record.sandbox_id,
        container_id=record.instance,
        created_at=record.created_at,
        ports={"http": record.port},
    )


def exit_detail(code: int) -> str:
    if code > 128:
        with contextlib.suppress(ValueError):
            return f"exit code {code} ({signal.Signals(code - 128).name})"
    return f"exit code {code}"


def attributes_of(record: Record) -> FlatSpec:
    """What can be read back: labels, thread and the address it listens on, as far as they were declared."""
    live: dict[str, str | int] = {f"labels.{name}": value for name, value in record.labels.items()}
    if record.thread_id is not None:
        live["thread_id"] = record.thread_id
    if "ports.http.bind" in record.spec:
        live["ports.http.bind"] = record.host
    if record.spec.get("ports.http.host", "auto") != "auto":
        live["ports.http.host"] = record.port
    return dict(sorted(live.items()))
