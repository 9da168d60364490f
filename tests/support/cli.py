"""The installed command in a folder of its own, with a process backend root of its own, cleaned up afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMEOUT = 120.0  # seconds; nothing here takes a tenth of it


@dataclass
class Folder:
    """A folder with a configuration. Call it with the command's arguments."""

    path: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RECONCILER_")}
        clean.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled once for all runs, as an installed command is
        clean["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / f"reconciler-pycache-{os.getuid()}")
        self.environ = {**clean, "XDG_STATE_HOME": str(self.path / "xdg"), "NO_COLOR": "1", **self.environ}

    def write(self, text: str, name: str = "sandboxes.yaml") -> None:
        (self.path / name).write_text(text)

    def __call__(
        self,
        *args: str,
        code: int | None = 0,
        stdin: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end. Fails when the exit code is not `code` (None: any)."""
        done = subprocess.run(
            [sys.executable, "-m", "reconciler", *args],
            cwd=self.path,
            env={**self.environ, **(environ or {})},
            capture_output=True,
            text=True,
            input=stdin if stdin is not None else "",
            timeout=TIMEOUT,
        )
        told = f"{' '.join(args)} exited with {done.returncode}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
        assert code is None or done.returncode == code, told
        assert "Traceback" not in done.stderr, told
        return done

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Run beside the test, in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "reconciler", *args],
            cwd=self.path,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def root(self) -> Path:
        return self.path / "xdg" / "reconciler" / "process"

    def state(self) -> dict[str, Any]:
        [file] = (self.path / "state").glob("*.json")
        state: dict[str, Any] = json.loads(file.read_text())
        return state

    def sandboxes(self) -> list[str]:
        """The ids that have a folder in the process backend's root."""
        if not self.root.is_dir():
            return []
        return sorted(entry.name for entry in self.root.iterdir() if not entry.name.startswith("."))

    def kill(self, sandbox_id: str) -> None:
        """SIGKILL to the sandbox's process, as an impatient person or the kernel does it."""
        process = json.loads((self.root / sandbox_id / "process.json").read_text())
        os.kill(process["main"][0], signal.SIGKILL)

    def processes(self) -> list[int]:
        """Every process whose command line or environment names this folder's root."""
        marker = str(self.root).encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                except OSError:
                    continue
                if marker in text:
                    found.append(int(entry.name))
        return found


@contextmanager
def folder(path: Path, **environ: str) -> Iterator[Folder]:
    made = Folder(path, environ=dict(environ))
    try:
        yield made
    finally:
        made("destroy", "--auto-approve", code=None)
        for pid in made.processes():
            os.kill(pid, signal.SIGKILL)


def lines(text: str) -> Sequence[dict[str, Any]]:
    """NDJSON, parsed."""
    return [json.loads(line) for line in text.splitlines()]
