"""Modules that a command imports: each costs a fifth of a millisecond or more, every time anybody runs it.

The lists are in `modules/`, one name a line: the modules of ours and the packages of others. A new one is refused until it
is wanted: `python -m tests.budgets.test_modules` writes the lists anew, for review.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LISTS = Path(__file__).parent / "modules"
CONFIGURATION = """version: 1
stack: budget
backends: {main: {type: memory, path: world.json}}
sandboxes: {s: {replicas: 10, image: one, environment: {LEVEL: info}}}
"""
COMMANDS = {"version": ["--version"], "validate": ["validate"], "plan": ["plan", "--detailed-exitcode"]}
# What Python starts with differs between versions and environments; what is told apart here is what we ask for.
COSTLY = {
    "asyncio",
    "concurrent",
    "ctypes",
    "email",
    "http",
    "logging",
    "multiprocessing",
    "ssl",
    "subprocess",
    "unittest",
    "xml",
}


def imported(name: str) -> set[str]:
    """Our modules, others' packages, and the costly parts of the standard library, that a whole run of it imports."""
    code = (
        f"import sys; sys.argv = ['reconciler', *{COMMANDS[name]!r}]; before = set(sys.modules)\n"
        "from reconciler.__main__ import main\nassert main() == 0\n"
        "open('modules', 'w').write(' '.join(set(sys.modules) - before))"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sandboxes.yaml").write_text(CONFIGURATION, encoding="utf-8")
        environ = {key: value for key, value in os.environ.items() if not key.startswith("RECONCILER_")}
        environ |= {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": folder}
        if name == "plan":
            run = "from reconciler.cli.main import run; assert run(['apply', '--auto-approve', '-q']) == 0"
            subprocess.run(
                [sys.executable, "-c", run],
                cwd=folder,
                env=environ,
                check=True,
                capture_output=True,
                timeout=60,
            )
        subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environ, check=True, capture_output=True, timeout=60
        )
        found = set(Path(folder, "modules").read_text(encoding="utf-8").split())
    standard = sys.stdlib_module_names
    ours = {module for module in found if module.split(".")[0] == "reconciler"}
    roots = {module.split(".")[0] for module in found} - {"reconciler", "__main__", "modules"}
    return ours | {
        root for root in roots if root in COSTLY or (root not in standard and not root.startswith("_"))
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_imports_what_it_is_known_to_need(name: str) -> None:
    budget = set((LISTS / f"{name}.txt").read_text(encoding="utf-8").split())
    more = sorted(imported(name) - budget)
    assert not more, f"`reconciler {name}` imports what it did not before: {', '.join(more)}"


if __name__ == "__main__":
    LISTS.mkdir(exist_ok=True)
    for command in COMMANDS:
        (LISTS / f"{command}.txt").write_text("\n".join(sorted(imported(command))) + "\n", encoding="utf-8")
