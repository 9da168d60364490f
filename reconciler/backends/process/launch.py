"""From a spec to a running keeper: what the sandbox gets to see, the listening socket, the start itself.

Secrets go through a pipe to the keeper; never into arguments, files of the record, or messages.
"""

from __future__ import annotations

import contextlib
import errno
import marshal
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from reconciler.backends.process.isolation import (
    HOME,
    SECRETS,
    SERVER,
    Bubblewrap,
    Jail,
    Word,
    compile_server,
    jailed,
    keeper_script,
    python,
    server_script,
)
from reconciler.backends.process.records import Record
from reconciler.errors import Permanent, Transient, Unavailable
from reconciler.model.desired import Mount, NetworkMode, SandboxSpec

MARKER = "RECONCILER_INSTANCE"
LONG_LOG = 16 * 1024 * 1024  # bytes; a server says at most half of that
_WRITES = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_LINGERS = 0.5  # seconds that the threads of a server may keep its port after the process itself is gone
_ARENAS = "MALLOC_ARENA_MAX"  # a server with many threads would else reserve gigabytes of address space


class Order(Struct, frozen=True, kw_only=True):
    """One start. `directory` is the record's; `timeout` in seconds is for the keeper to answer."""

    record: Record
    spec: SandboxSpec
    mounts: Sequence[Mount]
    directory: str
    key: str
    bubblewrap: Bubblewrap
    grace: float
    timeout: float


def listen(host: str, port: int | None) -> socket.socket:
    """Bound and listening before anything is started: the port is known, taken, and nobody can come between."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port or 0))
        sock.listen(128)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE and port:
            raise Transient(
                f"port {port} on {host} is in use",
                retry_after=1.0,
                hint=f"free it, or let the backend choose with `host: auto` instead of `host: {port}`",
            ) from error
        raise Permanent(f"cannot listen on {host}:{port or 'any port'}: {error.strerror}") from error
    return sock


def listen_again(host: str, port: int, *, asked_for: bool) -> socket.socket:
    """At the port it had. Where another program has that by now, at any other, unless it was asked for."""
    deadline = time.monotonic() + _LINGERS
    while True:
        try:
            return listen(host, port)
        except Transient:
            if time.monotonic() > deadline:
                if asked_for:
                    raise
                return listen(host, None)
        time.sleep(0.01)


def start(order: Order, listening: socket.socket, lock_fd: int, checkpoint: Callable[[str], None]) -> None:
    """Returns when the keeper has recorded the running sandbox. Raises after ending whatever was started; OSError
    for what could not be written, by the keeper too."""
    config = marshal.dumps(_config(order, listening.fileno()))
    log = _open_log(order.directory)
    config_read, config_write = os.pipe()
    status_read, status_write = os.pipe()
    try:
        keeper = _spawn(order, log, (config_read, status_write, lock_fd, listening.fileno()))
    except OSError as error:
        for fd in (config_read, config_write, status_read, status_write):
            os.close(fd)
        raise Unavailable(
            f"cannot start a process: {error.strerror}", hint="too many of them, or no memory"
        ) from error
    os.close(config_read)
    os.close(status_write)
    try:
        checkpoint("spawned")
        _tell(config_write, config)
        checkpoint("told")
        answered = select.select([status_read], [], [], order.timeout)[0]
        answer = os.read(status_read, 4096) if answered else b""
        if answer != b"ok":
            _raise_told(answer)
            what = "started nothing" if answered else f"did not start it within {order.timeout:g} s"
            raise Unavailable(f"the keeper of {order.record.sandbox_id} {what}{_last_words(order.directory)}")
    except BaseException:
        _end_group(keeper.pid)
        raise
    finally:
        os.close(status_read)
        keeper.wait()  # the first of the two forks: gone already


def _raise_told(answer: bytes) -> None:
    """The keeper's own OSError, sent as its number and the path."""
    number, _, path = answer.decode("utf-8", "replace").partition(" ")
    if number.isdigit():
        raise OSError(int(number), os.strerror(int(number)), path)


def _open_log(directory: str) -> int:
    path = os.path.join(directory, "log")
    with contextlib.suppress(OSError):  # a long log is no reason not to start
        _shorten(path)
    return os.open(path, _WRITES | os.O_APPEND, 0o600)


def _shorten(path: str) -> None:
    """Of a long log the newest half stays: what is started again and again must not fill the disk with what it said."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        size = os.fstat(fd).st_size
        if size <= LONG_LOG:
            return
        file.seek(size - LONG_LOG // 2)
        file.readline()  # which it may have begun within
        kept = file.read(LONG_LOG // 2)
    fresh = f"{path}.new"
    with open(os.open(fresh, _WRITES | os.O_TRUNC, 0o600), "wb") as file:
        file.write(kept)
    os.replace(fresh, path)


def _spawn(order: Order, log: int, descriptors: tuple[int, int, int, int]) -> subprocess.Popen[bytes]:
    """Closes `log`, whatever happens."""
    config_read, status_write, lock_fd, _ = descriptors
    words = [python(), "-I", "-S", keeper_script(), order.directory]
    try:
        return subprocess.Popen(
            [*words, str(config_read), str(status_write), str(lock_fd)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={"LC_ALL": "C.UTF-8", "PATH": os.defpath},
            pass_fds=descriptors,
            start_new_session=True,
        )
    finally:
        os.close(log)


def _tell(fd: int, data: bytes) -> None:
    """All of it, then the end of it. A keeper that died meanwhile is noticed by its missing answer."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except BrokenPipeError:
        return
    finally:
        os.close(fd)


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _config(order: Order, listen_fd: int) -> dict[str, object]:
    isolated = bool(order.bubblewrap.path)
    environment = _environment(order, isolated)
    files = {
        name: _value(name, order.spec) for name, ref in order.spec.secrets.items() if ref.delivery == "file"
    }
    return {
        "directory": order.directory,
        "argv": _words(order, isolated, tuple(files)),
        "env": environment,
        "cwd": "/" if isolated else os.path.join(order.directory, "workspace"),
        "listen_fd": listen_fd,
        "key": order.key,
        "secrets": files,
        "secret_dir": "" if isolated else order.record.secret_dir,
        "memory": order.spec.resources.memory or 0,
        "grace": order.grace,
        "instance": order.record.instance,
        "bubblewrap": isolated,
    }


def _words(order: Order, isolated: bool, secrets: Sequence[str]) -> list[Word]:
    spec, workspace = order.spec, os.path.join(order.directory, "workspace")
    script = f"{SERVER}/__main__.py" if isolated else server_script()
    command: list[Word] = [python(), "-I", "-S", script, "--home", HOME if isolated else workspace]
    command += ["--listen-fd", ("fd", "listen"), "--key-fd", ("fd", "key"), "--ready-fd", ("fd", "ready")]
    if _ARENAS not in spec.environment:
        command += ["--own-env", _ARENAS]
    if not isolated:
        return command
    compile_server()
    if spec.resources.pids is not None and order.bubblewrap.counts_processes:
        command += ["--max-pids", str(spec.resources.pids)]
    jail = Jail(
        workspace=workspace,
        mounts=order.mounts,
        secrets=secrets,
        network=spec.network.mode is not NetworkMode.ISOLATED,
        shm=spec.resources.shm,
        user=user_ids(spec.security.user),
    )
    return jailed(order.bubblewrap.path, jail, command)


def _environment(order: Order, isolated: bool) -> Mapping[str, str]:
    """Made from nothing: what the command line was started with is nobody's business inside."""
    import pwd

    directory, spec = order.directory, order.spec
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    environment = {
        "PATH": f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{os.path.dirname(python())}",
        "HOME": HOME if isolated else os.path.join(directory, "workspace"),
        "TMPDIR": "/tmp" if isolated else os.path.join(directory, "tmp"),  # noqa: S108 - a tmpfs of its own
        "USER": user,
        "LANG": "C.UTF-8",
        _ARENAS: "1",
        **spec.environment,
        "RECONCILER_SANDBOX": order.record.sandbox_id,
        MARKER: order.record.instance,
    }
    for name, ref in spec.secrets.items():
        if ref.delivery == "environment":
            environment[name] = _value(name, spec)
        else:
            environment[f"{name}_FILE"] = f"{SECRETS if isolated else order.record.secret_dir}/{name}"
    return environment


def _value(name: str, spec: SandboxSpec) -> str:
    value = spec.secrets[name].value
    if value is None:
        raise Permanent(f"secret {name} has no value yet", hint="resolve it before creating the sandbox")
    return value.reveal()


def check_secrets(spec: SandboxSpec) -> None:
    """Raises Permanent when one of them has no value."""
    for name in spec.secrets:
        _value(name, spec)


def user_ids(user: str | None) -> tuple[int, int] | None:
    """ "1000" or "1000:1000". Raises Permanent for names: inside there is no database of them to ask."""
    if user is None:
        return None
    uid, _, gid = user.partition(":")
    if not uid.isdigit() or (gid and not gid.isdigit()):
        raise Permanent(f"security.user {user!r} is not a number", hint='write "1000" or "1000:1000"')
    return int(uid), int(gid or uid)


def _last_words(directory: str) -> str:
    try:
        with open(os.path.join(directory, "log"), encoding="utf-8", errors="replace") as file:
            lines = file.read()[-2000:].strip().splitlines()
    except OSError:
        return ""
    return f": {lines[-1]}" if lines else ""
