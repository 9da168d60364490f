"""Runs of the command in children that can be killed: the client of `child.py`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from tests.crash.points import Fault, Point

_ROOT = Path(__file__).parents[2]


class Ended(Struct, frozen=True, kw_only=True):
    """`code` is negative for a signal; `points` are those met on the way, where that was asked for, or the one where the disk
    refused what was done."""

    code: int
    out: str
    points: tuple[Point, ...] = ()

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Runs:
    """Use it from one thread."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server

    @property
    def size(self) -> tuple[int, int]:
        """Bytes of memory and file handles of the server: flat, if nothing is lost from run to run."""
        there = Path(f"/proc/{self._server.pid}")
        [resident] = [
            line for line in (there / "status").read_text().splitlines() if line.startswith("VmRSS")
        ]
        return int(resident.split()[1]) * 1024, len(list((there / "fd").iterdir()))

    def __call__(
        self,
        folder: Path,
        *argv: str,
        environ: Mapping[str, str],
        point: Point | None = None,
        nth: int | None = None,
        listens: Fault | None = None,
    ) -> Ended:
        """Run the command line to its end, or until it is killed at `point`, or at any point for the `nth` time. `listens` asks
        for the points where that could befall it."""
        request = {
            "folder": str(folder),
            "argv": list(argv),
            "environ": dict(environ),
            "point": None if point is None else str(point),
            "nth": nth,
            "listens": listens,
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        line = self._server.stdout.readline()
        assert line, "the server of forks died"
        answer = json.loads(line)
        points = tuple(Point.parse(text) for text in answer["points"])
        return Ended(code=answer["code"], out=answer["out"], points=points)


@contextmanager
def runs() -> Iterator[Runs]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.crash.child"],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    ) as server:
        try:
            yield Runs(server)
        finally:
            assert server.stdin is not None
            server.stdin.close()


def environment(folder: Path, **more: str) -> dict[str, str]:
    """What a run in `folder` sees; its process sandboxes live below it."""
    clean = {
        name: os.environ[name]
        for name in ("PATH", "HOME", "LANG", "DOCKER_HOST", "TMPDIR")
        if name in os.environ
    }
    own = {"XDG_STATE_HOME": str(folder / "xdg"), "XDG_CACHE_HOME": str(folder / "cache")}
    return {**clean, **own, "NO_COLOR": "1", **more}


def done(ended: Ended, what: Sequence[str] | str, code: int = 0) -> Ended:
    """It ended as it should, and told no traceback."""
    told = f"{what} ended with {ended.code}, not {code}:\n{ended.out}"
    assert ended.code == code, told
    assert "Traceback" not in ended.out, told
    return ended
