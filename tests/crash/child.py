"""The server of forks: whoever asks gets one command line run in a child, killed, or refused by its disk, where it was asked
for.

One request a line on stdin, one answer a line on stdout, both JSON. Everything is imported once, before the forks, so that
a run costs its own work and no more. It has one thread, as whoever forks should.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.crash.faults import Disk
from tests.crash.points import Fault, Point, Watch, die

PATIENCE = 60  # seconds until a run that hangs is ended, by a signal that tells it from a kill


def main() -> None:
    _import_everything()
    for line in sys.stdin:
        answer = _answer(json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _import_everything() -> None:
    from reconciler.backends.process.isolation import find_bubblewrap
    from reconciler.cli.groups import LazyGroup
    from reconciler.cli.main import cli

    assert isinstance(cli, LazyGroup)
    for module in (
        "reconciler.cli.commands.apply",
        "reconciler.cli.commands.plan",
        "reconciler.cli.commands.state",
        "reconciler.cli.commands.state.edit",
        "reconciler.cli.commands.state.exchange",
        "reconciler.cli.views.human",
        "reconciler.cli.views.plain",
        "reconciler.config.configure",
        "reconciler.config.inputs",
        "reconciler.config.secrets",
        "reconciler.backends.registry",
        "reconciler.backends.memory",
        "reconciler.backends.process",
        "reconciler.backends.remote",
        "reconciler.stores.registry",
        "reconciler.stores.file",
        "reconciler.engine.execute",
        "reconciler.engine.perform",
        "reconciler.engine.reverting",
        "reconciler.engine.surgery",
        "reconciler.engine.workflow",
    ):
        __import__(module)
    find_bubblewrap()  # remembered from now on, also by the forks


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """`code` as `subprocess` has it, `out` is all that was printed, `points` those that were met, if that was asked for, and
    the one where the disk refused."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as points:
        child = os.fork()
        if child == 0:
            _be_the_run(request, out.fileno(), points.fileno())
        _, status = os.waitpid(child, 0)
        out.seek(0)
        points.seek(0)
        return {
            "code": os.waitstatus_to_exitcode(status),
            "out": out.read().decode("utf-8", "replace"),
            "points": points.read().decode().splitlines(),
        }


def _be_the_run(request: Mapping[str, Any], out: int, points: int) -> None:
    """Never returns."""
    code = 70
    try:
        os.setsid()
        signal.alarm(PATIENCE)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for fd, target in ((nothing, 0), (out, 1), (out, 2)):
            os.dup2(fd, target)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environ"])
        code = _run(request, points)
    except BaseException as error:
        sys.stderr.write(f"Traceback: {error!r}\n")
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run(request: Mapping[str, Any], points: int) -> int:
    from reconciler.cli.main import run

    deadly, left = request.get("point"), request.get("nth") or 0
    wanted = Point.parse(deadly) if deadly else None
    listens = request.get("listens")
    met: list[str] = []

    def meet(point: Point) -> None:
        nonlocal left
        left -= 1
        if point == wanted or left == 0:
            die()
        if listens:
            hear(point)

    def hear(point: Point) -> None:
        met.append(str(point))

    watch = Watch(meet)
    if listens == Fault.DISK or (wanted and wanted.fault is Fault.DISK):
        Disk(wanted, hear).begin()
    elif wanted or listens or left:
        watch.begin()
    try:
        return run(request["argv"])
    finally:
        watch.end()
        if met:
            Path(f"/proc/self/fd/{points}").write_text("\n".join(met))


if __name__ == "__main__":
    main()
