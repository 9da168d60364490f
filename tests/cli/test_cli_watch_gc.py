"""A watch looks for rubbish as often as Python does, whatever a short command does."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

CONFIGURATION = "version: 1\nstack: s\nbackends: {m: {type: memory, path: world.json}}\nsandboxes: {a: {}}\n"
CODE = """
import gc, sys
from reconciler.__main__ import main
sys.argv = ["reconciler", *sys.argv[1:]]
assert main() == 0
sys.stderr.write(f"thresholds {gc.get_threshold()}")
"""


def test_what_goes_in_circles_is_found_by_a_watch_in_time(tmp_path: Path) -> None:
    (tmp_path / "sandboxes.yaml").write_text(CONFIGURATION, encoding="utf-8")
    told = {}
    for name, args in {"plan": ["plan"], "watch": ["watch", "--once"]}.items():
        done = subprocess.run(
            [sys.executable, "-c", CODE, *args], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        told[name] = done.stderr.rpartition("thresholds ")[2]
    assert told["watch"] == str((700, 10, 10))
    assert told["plan"] != told["watch"]
    assert gc.isenabled()
