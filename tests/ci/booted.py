"""`examples/systemd/`, started by a real systemd: process 1 of a container, with this machine's programs and ours.

Sandboxes are containers beside it. The engine's socket and /dev/shm are this machine's, as they are for a unit of its own.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ci.lab import SECRET, Deployment, Lab, free_port, until
from tests.docs.pages import ROOT
from tests.support.docker import MADE_BY_TEST

SYSTEMD = ROOT / "examples" / "systemd"
_PROGRAM = "/usr/lib/systemd/systemd"
_USER = 61500  # nobody's number here
_RUN = "systemd-run --quiet --pipe --wait --collect --unit=reconciler-run-{}@research /opt/reconciler/bin/reconciler"
# They would look after the machine's own kernel, disks and engine.
_MASKED = ("systemd-sysctl.service", "systemd-udevd.service", "docker.socket", "systemd-logind.service")
WATCH = "reconciler-watch@research"


@dataclass(frozen=True, kw_only=True)
class Booted:
    """The machine with the units installed and the fleet applied."""

    lab: Lab
    machine: Any

    def run(self, command: str, *, code: int = 0) -> str:
        done = self.machine.exec_run(["/bin/sh", "-c", command])
        text = str(done.output.decode(errors="replace"))
        assert done.exit_code == code, f"{command}: {done.exit_code}\n{text}\n{self.journal()}"
        return text

    def reconciler(self, name: str, command: str) -> str:
        """As README.md says that people run it."""
        return self.run(f"{_RUN.format(name)} {command}")

    def state(self) -> str:
        """Of the machine; not an error while it starts."""
        return str(self.machine.exec_run(["systemctl", "is-system-running"]).output.decode().strip())

    def journal(self) -> str:
        found = self.machine.exec_run(["journalctl", "--no-pager", "--output=cat", "--unit=reconciler-*"])
        return str(found.output.decode(errors="replace"))

    def shown(self, unit: str, name: str) -> str:
        return self.run(f"systemctl show --value --property={name} {unit}").strip()


@contextmanager
def booted(lab: Lab) -> Iterator[Booted]:
    etc = lab.folder / "etc"
    _units(etc / "systemd" / "system")
    _settings(etc, lab)
    _fleet(etc / "reconciler" / "research", lab)
    try:
        made = Booted(lab=lab, machine=_machine(etc, lab))
        until(lambda: made.state() in ("running", "degraded"), made.state)
        made.reconciler("first", "apply --auto-approve")
        yield made
    finally:
        shutil.rmtree(f"/dev/shm/reconciler-{_USER}", ignore_errors=True)


def _units(folder: Path) -> None:
    shutil.copytree(SYSTEMD, folder, ignore=shutil.ignore_patterns("*.md", "*.yaml"))
    (folder / "reconciler-.service.d" / "30-process.conf").unlink()
    for name in _MASKED:
        (folder / name).symlink_to("/dev/null")


def _settings(etc: Path, lab: Lab) -> None:
    users = {"root": 0, "reconciler": _USER, "messagebus": _USER + 1}
    groups = {**users, "docker": lab.socket_group}
    (etc / "passwd").write_text(
        "".join(f"{name}:x:{number}:{number}::/:/bin/sh\n" for name, number in users.items())
    )
    (etc / "group").write_text("".join(f"{name}:x:{number}:\n" for name, number in groups.items()))
    libraries = [
        each
        for each in lab.stack.client.images.get(lab.image).attrs["Config"]["Env"]
        if each.startswith("LD_LIBRARY_PATH=")
    ]
    (etc / "system.conf").write_text(f"[Manager]\nDefaultEnvironment={' '.join(libraries)}\n")


def _fleet(folder: Path, lab: Lab) -> None:
    folder.mkdir(parents=True)
    text = (SYSTEMD / "sandboxes.yaml").read_text(encoding="utf-8")
    (folder / "sandboxes.yaml").write_text(lab.adapted(text), encoding="utf-8")
    secrets = folder.parent / "research.env"
    secrets.write_text(f"API_TOKEN={SECRET}\nLISTEN=127.0.0.1:{free_port()}\nINTERVAL=1s\n")
    secrets.chmod(0o600)


def _machine(etc: Path, lab: Lab) -> Any:
    own = {
        f"/usr/{name}": {"bind": f"/usr/{name}", "mode": "ro"}
        for name in ("bin", "sbin", "lib", "share/dbus-1")
    }
    own |= {
        str(etc / name): {"bind": f"/etc/{name}", "mode": "rw"} for name in ("passwd", "group", "reconciler")
    }
    own[str(etc / "systemd" / "system")] = {"bind": "/etc/systemd/system", "mode": "rw"}
    own[str(etc / "system.conf")] = {"bind": "/etc/systemd/system.conf", "mode": "ro"}
    own[lab.socket] = {"bind": "/run/docker.sock", "mode": "rw"}
    return lab.stack.client.containers.run(
        lab.image,
        ["--system", "--unit=basic.target", "--show-status=no"],
        entrypoint=_PROGRAM,
        detach=True,
        user="0",
        environment={"container": "docker"},
        labels={MADE_BY_TEST: lab.stack.name},
        volumes=own,
        tmpfs={"/run": "exec", "/tmp": "", "/sys/fs/cgroup": ""},
        network_mode="host",
        ipc_mode="host",  # where secrets are kept: /dev/shm of the machine that the engine is on
        cgroupns="private",
        cap_add=[
            "SYS_ADMIN"
        ],  # to mount; not more, so that /sys and /proc/sys of this machine stay read-only
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
    )


def it_tells_systemd_when_it_is_ready_and_how_it_is(made: Booted) -> None:
    made.run(f"systemctl start {WATCH}")
    assert made.shown(WATCH, "ActiveState") == "active"
    until(lambda: "2 of 2 ready" in made.shown(WATCH, "StatusText"), made.journal)


def it_may_do_little(made: Booted) -> None:
    pid = made.shown(WATCH, "MainPID")
    status = made.run(f"cat /proc/{pid}/status")
    assert f"Uid:\t{_USER}" in status
    assert "CapBnd:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    made.run(f"systemd-analyze security --no-pager --threshold=20 {WATCH}")
    mounts = {
        line.split()[4]: line.split()[5] for line in made.run(f"cat /proc/{pid}/mountinfo").splitlines()
    }
    assert mounts["/"].startswith("ro")
    assert mounts["/var/lib/reconciler"].startswith("rw")


def what_is_killed_comes_back(made: Booted) -> None:
    made.lab.kill_one()
    until(lambda: "well again" in made.journal(), made.journal)
    assert made.lab.all_run(2)


def a_reload_reads_the_configuration_again(made: Booted) -> None:
    made.run(f"systemctl reload {WATCH}")
    until(lambda: "the configuration was read again" in made.journal(), made.journal)
    until(lambda: made.shown(WATCH, "ActiveState") == "active", made.journal)


def one_that_hangs_is_started_anew(made: Booted) -> None:
    """With less patience than the example has."""
    before = made.shown(WATCH, "MainPID")
    folder = made.lab.folder / "etc" / "systemd" / "system" / f"{WATCH}.service.d"
    folder.mkdir()
    (folder / "patience.conf").write_text("[Service]\nWatchdogSec=2s\nRestartSec=100ms\n")
    made.run(f"systemctl daemon-reload; systemctl restart {WATCH}")
    fed = made.shown(WATCH, "MainPID")
    assert fed != before
    time.sleep(3)
    assert made.shown(WATCH, "MainPID") == fed, made.journal()
    made.run(f"kill -STOP {fed}")
    until(lambda: made.shown(WATCH, "MainPID") not in ("0", fed), made.journal)
    until(lambda: made.shown(WATCH, "ActiveState") == "active", made.journal)


def it_ends_well(made: Booted) -> None:
    made.run(f"systemctl stop {WATCH}")
    assert made.shown(WATCH, "Result") == "success"
    assert "stopped: asked to stop" in made.journal()


def the_drift_unit_puts_back_once(made: Booted) -> None:
    made.lab.kill_one()
    until(lambda: made.lab.all_run(1), made.journal)
    made.run("systemctl start reconciler-drift@research")
    assert made.lab.all_run(2)


def the_timer_starts_it_again(made: Booted) -> None:
    made.run("systemctl start reconciler-drift@research.timer")
    # while the service runs, it has no next time
    until(lambda: made.shown("reconciler-drift@research.timer", "NextElapseUSecRealtime") != "", made.journal)
    assert made.shown("reconciler-drift@research.timer", "Unit") == "reconciler-drift@research.service"


def secrets_outlive_every_unit(made: Booted) -> None:
    for sandbox in made.lab.running():
        assert made.lab.stack.shell(sandbox, "cat", "/run/secrets/API_TOKEN") == (0, SECRET)
    assert made.lab.stack.inspect(made.lab.running()[0])["Mounts"][0]["Source"].startswith("/dev/shm/")


def _lacks() -> str:
    if not Path(_PROGRAM).is_file():
        return "systemd is not installed"
    if not Path("/usr/bin/dbus-daemon").is_file():
        return "dbus is not installed, which systemd-run talks over"
    if not all(Path(f"/{name}").is_symlink() for name in ("bin", "sbin", "lib")):
        return "the programs of this machine are not all below /usr"
    return "" if os.geteuid() == 0 else "only root may tidy up /dev/shm afterwards"


SYSTEMD_UNITS = Deployment(
    lacks=_lacks,
    opened=booted,
    checks=(
        it_tells_systemd_when_it_is_ready_and_how_it_is,
        it_may_do_little,
        what_is_killed_comes_back,
        a_reload_reads_the_configuration_again,
        one_that_hangs_is_started_anew,
        it_ends_well,
        the_drift_unit_puts_back_once,
        the_timer_starts_it_again,
        secrets_outlive_every_unit,
    ),
)
