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
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from reconciler.backends.process.forkserver import ForkServer, cannot_start
from reconciler.backends.process.isolation import (
    HOME,
    SECRETS,
    SERVER,
    Bubblewrap,
    Jail,
    Word,
    compile_server,
    jailed,
    python,
    server_script,
)
from reconciler.backends.process.records import Record
from reconciler.errors import Permanent, Transient, Unavailable
from reconciler.model.desired import Mount, NetworkMode, SandboxSpec

MARKER = "RECONCILER_INSTANCE"
LONG_LOG = 16 * 1024 * 1024  # bytes; a server says at most half of that
_WRITES = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_NAMED_WITHIN = 5.0  # seconds from what forks keepers being asked to the keeper's first word
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


def start(
    order: Order,
    listening: socket.socket,
    lock_fd: int,
    server: ForkServer,
    checkpoint: Callable[[str], None],
) -> None:
    """Returns when the keeper has recorded the running sandbox. Raises after ending whatever was started; OSError
    for what could not be written, by the keeper too."""
    config = marshal.dumps(_config(order))
    log = _open_log(order.directory)
    config_read, config_write = os.pipe()
    status_read, status_write = os.pipe()
    try:
        stop = server.fork((config_read, status_write, lock_fd, listening.fileno(), log))
    except BaseException:
        os.close(config_write)
        os.close(status_read)
        raise
    finally:
        for fd in (log, config_read, status_write):
            os.close(fd)
    status = _Status(status_read)
    try:
        checkpoint("spawned")
        if not _tell(config_write, config, order.timeout):
            what = f"did not listen within {order.timeout:g} s"
            raise Unavailable(f"the keeper of {order.record.sandbox_id} {what}{server.last_words()}")
        checkpoint("told")
        if not status.wait(lambda told: told.endswith(b"\nok"), order.timeout):
            _raise_told(status.answer)
            what = "started nothing" if status.is_over else f"did not start it within {order.timeout:g} s"
            why = _last_words(order.directory) or server.last_words()
            raise Unavailable(f"the keeper of {order.record.sandbox_id} {what}{why}")
    except BaseException:
        status.end_keeper(stop)
        raise
    finally:
        os.close(status_read)


class _Status:
    """What a keeper tells: its process id and a newline, then `ok` or what failed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._told = b""
        self.is_over = False

    def wait(self, enough: Callable[[bytes], bool], timeout: float) -> bool:
        """Whether that has been told within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not enough(self._told) and not self.is_over:
            if not _is_ready(self._fd, select.POLLIN, deadline):
                break
            said = os.read(self._fd, 4096)
            self._told += said
            self.is_over = not said
        return enough(self._told)

    @property
    def answer(self) -> bytes:
        return self._told.partition(b"\n")[2]

    def end_keeper(self, stop: Callable[[], None]) -> None:
        """With its whole group, as soon as it has told who it is; once the server that forks is gone, and nobody has told
        by then, there never will be one."""
        if not self.wait(_is_named, _NAMED_WITHIN):
            stop()
            self.wait(_is_named, _NAMED_WITHIN)
        pid = int(self._told.partition(b"\n")[0] or 0)
        if pid and not (
            self.is_over and self.answer != b"ok"
        ):  # else it is gone, and its id may be another's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def _is_named(told: bytes) -> bool:
    return b"\n" in told


def _raise_told(answer: bytes) -> None:
    """The OSError of the keeper, or of what forks it, sent as its number and the path."""
    number, _, path = answer.decode("utf-8", "replace").partition(" ")
    if number.isdigit():
        if path == "fork":
            raise cannot_start(os.strerror(int(number)))
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


def _tell(fd: int, data: bytes, timeout: float) -> bool:
    """All of it, then the end of it; False when nobody read it within `timeout` seconds, as where what forks keepers is
    stopped: more than a pipe holds would be waited for forever. A keeper that died is noticed by its missing answer."""
    view, deadline = memoryview(data), time.monotonic() + timeout
    try:
        os.set_blocking(fd, False)
        while view and _is_ready(fd, select.POLLOUT, deadline):
            view = view[os.write(fd, view) :]
        return not view
    except BrokenPipeError:
        return True
    finally:
        os.close(fd)


def _is_ready(fd: int, event: int, deadline: float) -> bool:
    """By the deadline. By `poll`: `select` knows none beyond 1023."""
    poller = select.poll()
    poller.register(fd, event)
    return bool(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _config(order: Order) -> dict[str, object]:
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
