"""How a sandbox is kept apart: whether bubblewrap works here, and the words it is started with.

Never holds a secret or a value of the environment: arguments can be read by every user of the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache

from msgspec import Struct

from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import Mount, MountKind

HOME = "/home/sandbox"
SECRETS = "/run/secrets"
SERVER = "/run/reconciler/sandboxd"
_ENFORCED, _NOTED, _REFUSED = Support.ENFORCED, Support.NOTED, Support.REFUSED
_NAMESPACES = (
    "--unshare-user",
    "--disable-userns",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--hostname",
    "sandbox",
)
_SYSTEM = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
    "/run/current-system",
    "/etc/alternatives",
    "/etc/bash.bashrc",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/fonts",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/inputrc",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
    "/etc/terminfo",
    "/etc/timezone",
]

_WHY = {
    "image": "it runs this machine's own programs",
    "runtime": "a runtime class is a container engine's",
    "restart": "nothing starts a process again that ended, before the next apply",
    "mounts.*.type=volume": "volumes are a container engine's; mount a directory instead",
    "ports": "its server publishes one port, called `http`",
    "ports.http.container": "what its server answers on stands for 8080, and for no other port",
    "network.mode=allowlist": "bubblewrap knows all of the network or none of it",
    "network.allow": "bubblewrap knows all of the network or none of it",
    "network.name": "named networks are a container engine's",
    "resources.pids": "the kernel does not count the processes of one sandbox here",
    "resources.cpu": "there is no limit on cores for a process",
    "resources.memory": "this system enforces no limit on the memory of a process",
    "security.cap_add": "an ordinary process has none to give",
    "security.init=false": "there always is one",
    "security.no_new_privileges=false": "no process of it ever gains privileges",
    "security.read_only_root=false": "the system around its workspace is always read-only",
    "security.seccomp": "it installs no seccomp filter",
}
_WHY_NOT_ISOLATED = {
    **dict.fromkeys(
        ("mounts", "network.mode=isolated", "security.read_only_root", "security.cap_drop", "security.user"),
        "it takes bubblewrap, which is not in use",
    ),
    "resources.shm": "it takes bubblewrap, which is not in use",
    "resources.pids": "it takes bubblewrap, which is not in use",
    "security.read_only_root=false": "it is as read-only as this user finds it",
    "security.init": "orphans are reaped by the machine's own init",
}

Word = str | tuple[str, str]


class Bubblewrap(Struct, frozen=True, kw_only=True):
    """`path` is "" when it cannot be used; `detail` says why, for people. `counts_processes`: whether a limit on
    processes holds for one sandbox alone (not for root, whom the kernel exempts; not before Linux 5.14)."""

    path: str
    detail: str
    counts_processes: bool = False


@cache
def find_bubblewrap() -> Bubblewrap:
    """Tried once per process with everything a sandbox needs: being installed is not being allowed to."""
    path = shutil.which("bwrap") if sys.platform == "linux" else None
    if path is None:
        return Bubblewrap(path="", detail="bubblewrap is not installed")
    # Not all of `/`: what a container engine mounts below it comes and goes, and would fail the trial.
    words = [path, *_NAMESPACES, "--unshare-net", *_system(), "--dev", "/dev", "--proc", "/proc"]
    words += [
        "--size",
        "65536",
        "--tmpfs",
        "/tmp",  # noqa: S108 - a mount point inside
        "--cap-drop",
        "ALL",
        "--new-session",
        "--die-with-parent",
        "true",
    ]
    try:
        answer = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Bubblewrap(path="", detail=f"bubblewrap does not work here: {error}")
    if answer.returncode != 0:
        reason = answer.stderr.strip().rpartition("\n")[2] or f"exit code {answer.returncode}"
        return Bubblewrap(path="", detail=f"bubblewrap does not work here: {reason}")
    return Bubblewrap(path=path, detail=path, counts_processes=os.getuid() != 0 and _kernel() >= (5, 14))


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)


def capabilities(isolated: bool, counts_processes: bool) -> Capabilities:
    """What holds with and without bubblewrap. The limit on memory is per process (RLIMIT_AS)."""
    held = _ENFORCED if isolated else _REFUSED
    linux = _ENFORCED if sys.platform == "linux" else _REFUSED
    fields = {
        "image": _NOTED,
        "runtime": _REFUSED,  # it is chosen for its isolation
        "environment": _ENFORCED,
        "secrets": _ENFORCED,
        "labels": _ENFORCED,
        "thread_id": _ENFORCED,
        "restart": _REFUSED,
        "restart=no": _ENFORCED,
        "mounts": held,
        "mounts.*.type=volume": _REFUSED,
        "ports": _REFUSED,
        "ports.http": _ENFORCED,
        "ports.http.container": _REFUSED,
        "ports.http.container=8080": _ENFORCED,
        "resources.cpu": _NOTED,
        "resources.memory": linux if linux is _ENFORCED else _NOTED,
        "resources.pids": _ENFORCED if isolated and counts_processes else _NOTED,
        "resources.shm": _ENFORCED if isolated else _NOTED,
        "network": _REFUSED,
        "network.mode=open": _ENFORCED,
        "network.mode=isolated": held,
        "security.read_only_root": held,
        "security.read_only_root=false": _NOTED,
        "security.cap_drop": held,
        "security.cap_add": _REFUSED,
        "security.init": _ENFORCED if isolated else _NOTED,  # bubblewrap's first process reaps and passes on
        "security.init=false": _NOTED,
        "security.no_new_privileges": linux,
        "security.no_new_privileges=false": _NOTED,
        "security.seccomp": _REFUSED,
        "security.seccomp=unconfined": _ENFORCED,
        "security.user": held,
    }
    return Capabilities(
        fields=fields,
        default=Support.REFUSED,
        why=_WHY if isolated else {**_WHY, **_WHY_NOT_ISOLATED},
        updatable=("labels",),
        probes=frozenset({"http", "tcp", "exec", "none"}),
        logs=True,
        exec=True,
        events=True,
        restarts=True,
        create_cost="~0.1s",
    )


class Jail(Struct, frozen=True, kw_only=True):
    """What one sandbox's bubblewrap is told. `workspace` is on the host and becomes the home inside."""

    workspace: str
    mounts: Sequence[Mount] = ()
    secrets: Sequence[str] = ()
    network: bool = True
    shm: int | None = None
    user: tuple[int, int] | None = None


def jailed(bwrap: str, jail: Jail, command: Sequence[Word]) -> list[Word]:
    """bubblewrap's arguments followed by `command`. Everything but the workspace, /tmp, /dev/shm and writable
    mounts is read-only; of /etc only what programs need is there; homes and other sandboxes are not."""
    words: list[Word] = [bwrap, *_NAMESPACES, "--new-session", "--die-with-parent", "--cap-drop", "ALL"]
    if not jail.network:
        words.append("--unshare-net")
    if jail.user is not None:
        words += ["--uid", str(jail.user[0]), "--gid", str(jail.user[1])]
    words += _system()
    for path in python_places():
        words += ["--ro-bind", path, path]
    words += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777"]
    words += [*(() if jail.shm is None else ("--size", str(jail.shm))), "--tmpfs", "/dev/shm"]  # noqa: S108
    words += ["--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108 - a mount point inside
    words += ["--ro-bind", os.path.dirname(server_script()), SERVER]
    words += ["--bind", jail.workspace, HOME]
    for mount in jail.mounts:
        words += _mounted(mount)
    words += ["--perms", "0700", "--tmpfs", SECRETS]
    for name in jail.secrets:
        words += ["--perms", "0400", "--file", ("fd", f"secret:{name}"), f"{SECRETS}/{name}"]
    return [*words, "--remount-ro", SECRETS, "--remount-ro", "/", "--chdir", HOME, "--", *command]


def _system() -> list[str]:
    """The directories that programs need, read-only."""
    words: list[str] = []
    for path in _SYSTEM:
        if os.path.islink(path) and not path.startswith("/etc/"):
            words += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            words += ["--ro-bind", path, path]
    return words


def _mounted(mount: Mount) -> list[str]:
    if mount.kind is not MountKind.TMPFS:
        return ["--ro-bind" if mount.read_only else "--bind", mount.source, mount.target]
    size = [] if mount.size is None else ["--size", str(mount.size)]
    words = ["--perms", "1777", *size, "--tmpfs", mount.target]
    return [*words, "--remount-ro", mount.target] if mount.read_only else words


@cache
def python() -> str:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable) or sys.executable)


@cache
def python_places() -> tuple[str, ...]:
    """What must be visible for it to run, and is not part of the system directories."""
    places = {os.path.realpath(sys.base_prefix), os.path.realpath(sys.base_exec_prefix)}
    places.add(os.path.dirname(python()))
    outside = sorted(place for place in places if not _within_any(place, _SYSTEM))
    return tuple(place for place in outside if not _within_any(place, [p for p in outside if p != place]))


def _within_any(path: str, parents: Sequence[str]) -> bool:
    return path == "/" or any(path == parent or path.startswith(parent + "/") for parent in parents)


def server_script() -> str:
    """Found beside this package, so that it is the same version."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return os.path.join(package, "sandboxd", "__main__.py")


@cache
def compile_server() -> None:
    """Once per process, if nobody did: some installers write no bytecode, and a sandbox, to which the files are
    read-only, would compile them anew at every start."""
    import py_compile
    from importlib.util import cache_from_source

    directory = os.path.dirname(server_script())
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if name.endswith(".py") and not os.path.exists(cache_from_source(path)):
            try:
                py_compile.compile(path, quiet=2)
            except OSError:  # a read-only installation: slower, not wrong
                return


def forkserver_script() -> str:
    return os.path.join(os.path.dirname(server_script()), "forkserver.py")
