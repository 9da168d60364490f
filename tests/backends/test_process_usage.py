"""What a sandbox of the process backend takes, measured on real processes."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.backends.process import ProcessBackend
from reconciler.backends.process.isolation import python
from reconciler.errors import BackendError, NotFound, Transient
from reconciler.model.observed import SandboxInfo, Usage
from tests.backends.processes import ISOLATIONS, eventually, server_pid

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

MIB = 2**20


@pytest.fixture(params=ISOLATIONS)
def backend(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ProcessBackend]:
    backend = ProcessBackend(str(tmp_path / "state"), request.param)
    yield backend
    for seen in backend.observe():
        backend.destroy(seen.info)


def sample(backend: ProcessBackend, info: SandboxInfo) -> Usage:
    found = backend.usage(info)
    assert found is not None
    return found


def serving(backend: ProcessBackend) -> SandboxInfo:
    info = backend.create(None, "used")
    server_pid(Path(backend.root), "used")
    eventually(lambda: _answers(backend, info), "the sandbox to run commands")
    return info


def _answers(backend: ProcessBackend, info: SandboxInfo) -> bool:
    try:
        return backend.exec(info, ["true"]).exit_code == 0
    except Transient:
        return False


def test_computing_and_holding_memory_inside_show(backend: ProcessBackend) -> None:
    info = serving(backend)
    before = sample(backend, info)
    code = f"held = bytearray({64 * MIB}); import time\nwhile True: time.process_time()"

    def compute() -> None:
        with contextlib.suppress(BackendError):  # it is still at it when the sandbox is destroyed
            backend.exec(info, ["timeout", "20", python(), "-c", code])

    busy = threading.Thread(target=compute, daemon=True)
    busy.start()
    grown = eventually(
        lambda: (
            now
            if (now := sample(backend, info)).memory > before.memory + 60 * MIB
            and now.cpu_seconds > before.cpu_seconds + 0.2
            else None
        ),
        "memory and CPU time of a command to show",
        seconds=20,
    )
    assert grown is not None
    assert grown.at > before.at
    assert grown.cpu_seconds - before.cpu_seconds <= (grown.at - before.at) * 1.2 + 0.2
    assert grown.memory < before.memory + 128 * MIB


def test_time_that_a_finished_command_took_still_counts(backend: ProcessBackend) -> None:
    info = serving(backend)
    before = sample(backend, info)
    loop = "import time\nwhile time.process_time() < 0.3: pass"
    assert backend.exec(info, [python(), "-c", loop]).exit_code == 0
    eventually(lambda: sample(backend, info).cpu_seconds >= before.cpu_seconds + 0.25, "its time to count")


def test_what_is_not_running_takes_nothing_and_says_so(backend: ProcessBackend) -> None:
    info = backend.create(None, "used")
    backend.destroy(info)
    with pytest.raises(NotFound, match="used"):
        backend.usage(info)


def test_a_sample_costs_next_to_nothing(backend: ProcessBackend) -> None:
    info = serving(backend)
    started = time.monotonic()
    for _ in range(20):
        sample(backend, info)
    assert time.monotonic() - started < 2.0  # it takes some 10 ms
