"""`examples/systemd/` as systemd reads it. That the units work is shown by `test_deployments.py`."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ci.booted import SYSTEMD
from tests.ci.lab import SECRET
from tests.support.cli import Folder
from tests.support.required import required

UNITS = [
    f"reconciler-{name}"
    for name in ("watch@research.service", "drift@research.service", "drift@research.timer")
]
_THERE = (
    "sysinit.target",
    "basic.target",
    "shutdown.target",
    "network-online.target",
    "timers.target",
    "time-sync.target",
    "time-set.target",
    "multi-user.target",
    "system.slice",
    "docker.service",
)
_PROGRAMS = ("opt/reconciler/bin/reconciler", "bin/kill")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root with the units, the programs that they start, and the units that they name."""
    units = tmp_path / "etc" / "systemd" / "system"
    shutil.copytree(SYSTEMD, units, ignore=shutil.ignore_patterns("*.md", "*.yaml"))
    for name in _THERE:
        kind = "[Service]\nExecStart=/bin/kill\n" if name.endswith(".service") else ""
        (units / name).write_text(f"[Unit]\nDefaultDependencies=no\n{kind}")
    for name in _PROGRAMS:
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    return tmp_path


def verified(machine: Path, unit: str) -> tuple[int, str]:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", f"--root={machine}", unit],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=60,
    )
    return done.returncode, done.stdout


@required("systemd-analyze")
class TestVerify:
    @pytest.mark.parametrize("backend", ["20-docker.conf", "30-process.conf"])
    @pytest.mark.parametrize("unit", UNITS)
    def test_systemd_has_nothing_to_say_about(self, unit: str, backend: str, machine: Path) -> None:
        for file in (machine / "etc/systemd/system/reconciler-.service.d").glob("[23]*.conf"):
            if file.name != backend:
                file.unlink()
        assert verified(machine, unit) == (0, "")

    @pytest.mark.parametrize(
        ("file", "key"),
        [
            ("reconciler-watch@.service", "WatchdogSec"),
            ("reconciler-drift@.timer", "RandomizedDelaySec"),
            ("reconciler-.service.d/10-common.conf", "ProtectSystem"),
        ],
    )
    def test_a_misspelt_key_is_noticed(self, file: str, key: str, machine: Path) -> None:
        path = machine / "etc/systemd/system" / file
        path.write_text(path.read_text().replace(key, f"{key}s"))
        unit = UNITS[2] if file.endswith("timer") else UNITS[0]
        assert f"'{key}s'" in verified(machine, unit)[1]


def test_a_unit_is_small_because_what_they_share_is_written_once() -> None:
    common = set(
        re.findall(r"^(\w+)=", (SYSTEMD / "reconciler-.service.d/10-common.conf").read_text(), re.MULTILINE)
    )
    for unit in SYSTEMD.glob("*.service"):
        assert not common & set(re.findall(r"^(\w+)=", unit.read_text(), re.MULTILINE)) - {"Environment"}


def test_secrets_in_shared_memory_outlive_a_unit() -> None:
    """With `RemoveIPC` systemd would take them away when a unit ends, and a sandbox that is restarted had none."""
    assert "\nRemoveIPC=false\n" in (SYSTEMD / "reconciler-.service.d/10-common.conf").read_text()


@pytest.mark.parametrize("words", [["validate"], ["fmt", "--check"]], ids=" ".join)
def test_the_configuration_passes(words: list[str], tmp_path: Path) -> None:
    Folder(tmp_path, {"API_TOKEN": SECRET})("-C", str(SYSTEMD), *words)
