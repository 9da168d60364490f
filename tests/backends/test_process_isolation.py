"""What bubblewrap holds, tried from inside."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from reconciler.backends.process import ProcessBackend
from reconciler.backends.process.isolation import python
from reconciler.errors import Permanent, Unsupported
from reconciler.model.capabilities import Support
from reconciler.model.desired import Mount, MountKind, Network, NetworkMode, Resources, SandboxSpec, Security
from reconciler.model.observed import SandboxInfo
from tests.backends.processes import ISOLATIONS, server_pid
from tests.support.required import required

pytestmark = required("bwrap", broken="" if "bubblewrap" in ISOLATIONS else "see `reconciler doctor`")


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[ProcessBackend]:
    backend = ProcessBackend(str(tmp_path / "state"), "auto")
    yield backend
    for info in backend.list_running():
        backend.destroy(info)


def sh(backend: ProcessBackend, info: SandboxInfo, script: str) -> str:
    done = backend.exec(info, ["sh", "-c", f"{script} 2>&1"])
    return done.stdout


def test_auto_uses_it_where_it_works(backend: ProcessBackend) -> None:
    assert backend.isolation == "bubblewrap"
    assert backend.notes() == ()


def test_an_isolated_network_has_no_way_out_while_the_api_answers(backend: ProcessBackend) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        port = outside.getsockname()[1]
        connect = f"{python()} -I -S -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 3)'"
        closed = backend.create(None, "closed", spec=SandboxSpec(network=Network(mode=NetworkMode.ISOLATED)))
        opened = backend.create(None, "opened", spec=SandboxSpec(network=Network(mode=NetworkMode.OPEN)))
        assert "Connection refused" in sh(backend, closed, connect)
        assert sh(backend, opened, connect) == ""
        assert len(sh(backend, closed, "cat /proc/net/route").splitlines()) == 1
        assert sh(backend, closed, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '") == "lo\n"
        assert backend.exec(closed, ["echo", "still answers"]).stdout == "still answers\n"


STEAL = """
import ctypes, os, stat
libc = ctypes.CDLL(None, use_errno=True)
PIDFD_GETFD = 438
for pid in sorted(name for name in os.listdir("/proc") if name.isdigit() and name != str(os.getpid())):
    pidfd = os.pidfd_open(int(pid))
    taken = [libc.syscall(PIDFD_GETFD, pidfd, fd, 0) for fd in range(64)]
    sockets = [fd for fd in taken if fd >= 0 and stat.S_ISSOCK(os.fstat(fd).st_mode)]
    server = b"--listen-fd" in open(f"/proc/{pid}/cmdline", "rb").read() and pid != "1"
    print("server" if server else "other", sockets, max(taken) if server else "")
"""


def test_the_listening_socket_cannot_be_taken_from_inside(backend: ProcessBackend) -> None:
    """In an isolated network it would be a way out."""
    info = backend.create(None, "taken", spec=SandboxSpec(network=Network(mode=NetworkMode.ISOLATED)))
    (Path(backend.root) / "taken" / "workspace" / "steal.py").write_text(STEAL)
    told = sh(backend, info, f"{python()} -I -S steal.py").splitlines()
    assert "server [] -1" in told, told
    assert not [line for line in told if "[]" not in line], told


def test_it_sees_its_own_processes_only(backend: ProcessBackend) -> None:
    info = backend.create(None, "alone")
    seen = [int(pid) for pid in sh(backend, info, "ls /proc").split() if pid.isdigit()]
    assert len(seen) < 10
    assert server_pid(Path(backend.root), "alone") not in seen


@pytest.mark.parametrize("path", ["/", "/usr", "/etc", "/home", "/run/secrets", "/run/reconciler/sandboxd"])
def test_the_system_is_read_only(backend: ProcessBackend, path: str) -> None:
    info = backend.create(None, "readonly", spec=SandboxSpec(security=Security(read_only_root=True)))
    assert "Read-only file system" in sh(backend, info, f"touch {path}/x")


def test_workspace_and_tmp_are_its_own(backend: ProcessBackend, tmp_path: Path) -> None:
    one, two = backend.create(None, "one"), backend.create(None, "two")
    sh(backend, one, "echo mine > ~/file; echo mine > /tmp/file; echo mine > /dev/shm/file")
    assert "No such file" in sh(backend, two, "cat ~/file /tmp/file /dev/shm/file")
    assert (Path(backend.root) / "one" / "workspace" / "file").read_text() == "mine\n"
    assert "No such file" in sh(backend, two, f"ls {backend.root}")
    assert not Path("/tmp/file").exists()


@pytest.mark.parametrize("path", ["/etc/shadow", "/root/.bashrc", "/var/log", "/sys/kernel", "/boot"])
def test_what_is_nobody_elses_business_is_not_there(backend: ProcessBackend, path: str) -> None:
    info = backend.create(None, "hidden")
    assert "No such file" in sh(backend, info, f"ls -d {path}")


def test_the_homes_of_the_machine_are_not_there(backend: ProcessBackend) -> None:
    info = backend.create(None, "homes")
    assert sh(backend, info, "ls /home") == "sandbox\n"
    home = os.path.expanduser("~")
    assert "No such file" in sh(backend, info, f"ls -d {home}/.config {home}/.cache {home}/.ssh")


def test_mounts_are_there_and_read_only_holds(backend: ProcessBackend, tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    (tmp_path / "a:b" / "file").write_text("text")
    (tmp_path / "rw").mkdir()
    spec = SandboxSpec(
        mounts=(
            Mount(source=str(tmp_path / "a:b"), target="/mnt/with space:colon", read_only=True),
            Mount(source=str(tmp_path / "rw"), target="/home/sandbox/data"),
        )
    )
    info = backend.create(None, "mounts", [(str(tmp_path / "rw"), "/mnt/extra", False)], spec=spec)
    assert sh(backend, info, "cat '/mnt/with space:colon/file'") == "text"
    assert "Read-only file system" in sh(backend, info, "touch '/mnt/with space:colon/x'")
    sh(backend, info, "echo one > data/one; echo two > /mnt/extra/two")
    assert sorted(path.name for path in (tmp_path / "rw").iterdir()) == ["one", "two"]
    backend.destroy(info)
    assert (tmp_path / "a:b" / "file").read_text() == "text"
    assert sorted(path.name for path in (tmp_path / "rw").iterdir()) == ["one", "two"]


def test_memory_is_mounted_as_large_as_declared_and_gone_with_the_sandbox(
    backend: ProcessBackend,
) -> None:
    spec = SandboxSpec(
        mounts=(
            Mount(kind=MountKind.TMPFS, target="/scratch", size=2 * 1024 * 1024),
            Mount(kind=MountKind.TMPFS, target="/empty", read_only=True),
        )
    )
    info = backend.create(None, "tmpfs", spec=spec)
    shown = sh(backend, info, "df -k --output=fstype,size /scratch | tail -1").split()
    assert shown == ["tmpfs", "2048"]
    assert sh(backend, info, "echo one > /scratch/one && cat /scratch/one") == "one\n"
    assert "No space left" in sh(backend, info, "{ head -c 3000000 /dev/zero > /scratch/much; }")
    assert "Read-only file system" in sh(backend, info, "touch /empty/x")
    backend.destroy(info)
    again = backend.create(None, "tmpfs", spec=spec)
    assert sh(backend, again, "ls /scratch") == ""


def test_an_init_reaps_what_others_leave_behind(backend: ProcessBackend) -> None:
    info = backend.create(None, "init", spec=SandboxSpec(security=Security(init=True)))
    sh(backend, info, "(setsid sleep 0.05 &) ; sleep 0.3")
    assert "Z" not in sh(backend, info, "cat /proc/[0-9]*/stat | sed 's/.*) //' | cut -c1")


def test_a_volume_is_refused_with_its_reason_and_left_out_when_that_is_allowed(
    backend: ProcessBackend,
) -> None:
    volume = Mount(kind=MountKind.VOLUME, source="data", target="/data")
    with pytest.raises(Unsupported, match=r"mounts\./data\.type"):
        backend.create(None, "volume", spec=SandboxSpec(mounts=(volume,)))
    info = backend.create(None, "volume", spec=SandboxSpec(mounts=(volume,), unsupported_warn=True))
    assert "No such file" in sh(backend, info, "ls -d /data")


def test_no_capability_and_no_way_to_new_ones(backend: ProcessBackend) -> None:
    info = backend.create(
        None, "caps", spec=SandboxSpec(security=Security(cap_drop=("ALL",), no_new_privileges=True))
    )
    status = dict(
        line.split(":\t", 1)
        for line in sh(backend, info, "cat /proc/self/status").splitlines()
        if "\t" in line
    )
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert (
        "denied" in sh(backend, info, "unshare -U true").lower()
        or "no space" in sh(backend, info, "unshare -U true").lower()
    )


def test_without_isolation_there_are_no_new_privileges_either(tmp_path: Path) -> None:
    backend = ProcessBackend(str(tmp_path / "state"), "none")
    info = backend.create(None, "caps", spec=SandboxSpec(security=Security(no_new_privileges=True)))
    assert "NoNewPrivs:\t1" in sh(backend, info, "cat /proc/self/status")
    backend.destroy(info)


def test_the_user_inside_is_the_declared_one(backend: ProcessBackend) -> None:
    info = backend.create(None, "user", spec=SandboxSpec(security=Security(user="1234:5678")))
    assert sh(backend, info, "id -u; id -g") == "1234\n5678\n"
    assert sh(backend, info, "touch file && echo made") == "made\n"
    with pytest.raises(Permanent, match="not a number"):
        backend.create(None, "named", spec=SandboxSpec(security=Security(user="gem")))


def test_shared_memory_is_as_large_as_declared(backend: ProcessBackend) -> None:
    info = backend.create(None, "shm", spec=SandboxSpec(resources=Resources(shm=2 * 1024 * 1024)))
    assert sh(backend, info, "df -k --output=size /dev/shm | tail -1").strip() == "2048"


def test_it_says_what_it_cannot_hold(backend: ProcessBackend) -> None:
    support = backend.capabilities.support
    assert support("network.mode", "isolated") is Support.ENFORCED
    assert support("network.mode", "allowlist") is Support.REFUSED
    assert support("mounts./data.read_only", True) is Support.ENFORCED
    assert support("security.seccomp", "default") is Support.REFUSED
    assert support("resources.cpu", 1) is Support.NOTED
    assert support("mounts./data.type", "tmpfs") is Support.ENFORCED
    assert support("mounts./a.b/data.type", "volume") is Support.REFUSED
    assert support("network.name", "agents") is Support.REFUSED
    assert support("security.cap_add", '["NET_ADMIN"]') is Support.REFUSED
    assert support("security.init", True) is Support.ENFORCED
    assert support("restart", "no") is Support.ENFORCED
    assert support("restart", "always") is Support.REFUSED
    plain = ProcessBackend(backend.root, "none").capabilities.support
    assert plain("network.mode", "isolated") is Support.REFUSED
    assert plain("mounts./data.read_only", True) is Support.REFUSED
    assert plain("security.cap_drop", "[]") is Support.REFUSED
    assert plain("environment.A", "1") is Support.ENFORCED
    assert plain("mounts./data.type", "tmpfs") is Support.REFUSED
    assert plain("security.init", True) is Support.NOTED


@pytest.mark.parametrize("isolation", ["bubblewrap", "none"])
def test_whatever_it_does_not_hold_it_says_why(isolation: str, backend: ProcessBackend) -> None:
    able = ProcessBackend(backend.root, isolation).capabilities
    loose = {field for field, support in able.fields.items() if support is not Support.ENFORCED}
    unexplained = {field for field in loose if not able.reason(*field.partition("=")[::2])}
    assert unexplained - {"network"} == set()  # its values have theirs


AS_NOBODY = """
import sys
from reconciler.backends.process import ProcessBackend
from reconciler.model.capabilities import Support
from reconciler.model.desired import Resources, SandboxSpec
backend = ProcessBackend(sys.argv[1], "bubblewrap")
assert backend.capabilities.support("resources.pids", 40) is Support.ENFORCED
info = backend.create(None, "limited", spec=SandboxSpec(resources=Resources(pids=40)))
other = backend.create(None, "other", spec=SandboxSpec(resources=Resources(pids=40)))
forks = "for i in $(seq 60); do sleep 5 & done 2>&1; true"
print(backend.exec(info, ["sh", "-c", forks]).stdout)
print(backend.exec(other, ["echo", "the other is not touched"]).stdout)
for made in (info, other):
    backend.destroy(made)
assert backend.observe() == []
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_gets_limits_on_processes_too() -> None:
    """The kernel exempts root from them; this runs the whole thing as nobody."""
    setpriv, interpreter = shutil.which("setpriv"), shutil.which("python3", path="/usr/bin:/usr/local/bin")
    home = Path("/dev/shm") / f"reconciler-test-{os.getpid()}"
    words = [str(setpriv), "--reuid=65534", "--regid=65534", "--clear-groups", str(interpreter)]
    same = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"  # it needs our compiled packages
    if setpriv is None or interpreter is None or subprocess.run([*words, "-c", same]).returncode:
        pytest.skip("no interpreter that nobody can run")
    try:
        home.mkdir(mode=0o700)
        os.chown(home, 65534, 65534)
        packages = home / "packages"
        shutil.copytree(
            Path(msgspec.__file__).parent, packages / "msgspec"
        )  # ours may be where nobody may look
        done = subprocess.run(
            [*words, "-B", "-c", AS_NOBODY, str(home / "sandboxes")],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(packages)},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        assert "Resource temporarily unavailable" in done.stdout or "Cannot fork" in done.stdout
        assert "the other is not touched" in done.stdout
    finally:
        shutil.rmtree(home)
