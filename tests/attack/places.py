"""A folder with a stack of one box, and the command on a real terminal, with all that it printed."""

from __future__ import annotations

import json
import os
import pty
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.attack.hostile import LINEAGE, STACK

ROOT = Path(__file__).parents[2]
BOX = "sandboxes: {box: {readiness: none}}\n"
MEMORY = "backends: {m: {type: memory}}\n" + BOX
HOSTILE = "backends: {h: {type: 'tests.attack.hostile:Hostile', does: %s, verb: %s}}\n" + BOX

_OURS = re.compile(
    r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[[0-9]*[AJKH]|\r"
)  # colour, the cursor of the live view
_STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\U000e0000-\U000e0fff]")  # fmt: skip


def folder(path: Path, text: str = MEMORY, *, state: object = None) -> Path:
    """`state` is a document, or the bytes of what only looks like one. What is in memory is nobody else's."""
    text = text.replace("{type: memory}", f"{{type: memory, world: {path.name}}}")
    (path / "sandboxes.yaml").write_text(f"version: 1\nstack: {STACK}\n{text}", encoding="utf-8")
    (path / "state").mkdir(mode=0o700)
    if state is not None:
        data = state if isinstance(state, bytes) else json.dumps(state).encode()
        (path / "state" / f"{STACK}.json").write_bytes(data)
    return path


def a_state(sandboxes: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    empty = {"format": "1.0", "stack": STACK, "serial": 1, "lineage": LINEAGE, "updated_at": 1.0}
    return {**empty, "backends": {}, "outputs": {}, "sandboxes": dict(sandboxes or {}), **more}


def on_terminal(where: Path, *args: str) -> tuple[int, str]:
    """(exit code, everything that reached the terminal)."""
    pid, fd = pty.fork()
    if pid == 0:
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("RECONCILER_", "NO_COLOR"))}
        environ |= {"PYTHONPATH": str(ROOT), "TERM": "xterm", "XDG_STATE_HOME": str(where / "xdg")}
        os.chdir(where)
        os.execve(sys.executable, [sys.executable, "-m", "reconciler", *args], environ)
    data = b"".join(_read(fd))
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), data.decode("utf-8", "replace")


def _read(fd: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(fd, 65536)
        except OSError:  # how a terminal says that nobody is there any more
            return
        if not chunk:
            return
        yield chunk


def check_harmless(printed: str) -> None:
    """Nothing in it steers a terminal but what we wrote ourselves, and nothing looks like a bug."""
    left = _STEERS.findall(_OURS.sub("", printed))
    assert not left, f"{left} in {printed!r}"
    assert "Traceback" not in printed
    assert "internal error" not in printed
