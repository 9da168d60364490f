"""The process beside each sandbox: starts it, outlives whoever asked for it, tells how it ended, leaves nothing.

Forked by `forkserver`; imports nothing else of this project. What it is to do comes through a pipe (never as
arguments: there are secrets in it), as a marshalled mapping written by the same interpreter version: `directory`,
`argv` (words, or ("fd", NAME) for a descriptor of that name), `env`, `cwd`, `key`, `secrets` (name to value),
`secret_dir` ("" to hand secrets over as descriptors), `memory` (bytes, 0 for no limit), `grace` (seconds between
SIGTERM and SIGKILL), `instance` (what its record.json calls it).

It tells its process id in a line, then `ok`, or an OSError as its number and the path, which is `fork` for a process
that could not be started.

Order matters: `process.json` is written before the lock descriptor inherited from the creator is closed. So whoever
gets the lock later sees either a whole sandbox or none, even if the creator was killed meanwhile.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 15, 36, 38
_LOOK = 1.0  # seconds between two looks at whether the record is still there


def keep(
    config_fd: int, status_fd: int, lock_fd: int, listen_fd: int, *, named: Callable[[str], None]
) -> int:
    """From what is asked to the end of the sandbox. `named` is called with its directory, for the title."""
    _reported(os.write, status_fd, b"%d\n" % os.getpid())
    with open(config_fd, "rb") as pipe:
        data = pipe.read()
    try:
        config = marshal.loads(data)  # noqa: S302 - written by our own creator, through a pipe of its own
    except (EOFError, ValueError, TypeError):
        return 1  # the creator died while it wrote: nothing was started, nothing stays
    named(config["directory"])
    _prctl(_PR_SET_NAME, b"keeper")
    keeper = _Keeper(config)
    try:
        keeper.start(inherited=(listen_fd, status_fd, lock_fd))
    except OSError as error:  # told, for on a full disk no log can hold it
        _reported(os.write, status_fd, f"{error.errno} {error.filename or config['directory']}".encode())
        return 1
    try:
        os.write(status_fd, b"ok")
    except OSError:  # the creator is gone; the sandbox is whole all the same, and the next look finds it
        os.write(2, b"keeper: started; whoever asked for it is gone\n")
    os.close(status_fd)
    os.close(lock_fd)
    keeper.watch()
    return 0


class _Keeper:
    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._directory: str = config["directory"]
        self._main = self._server = 0
        self._ready_fd = -1

    def start(self, inherited: tuple[int, ...]) -> None:
        for fd in inherited:
            os.set_inheritable(fd, False)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        descriptors = {"listen": inherited[0], "key": _filled(self._config["key"])}
        self._ready_fd, descriptors["ready"] = os.pipe()
        for name, value in self._config["secrets"].items():
            if self._config["secret_dir"]:
                self._write_secret(name, value)
            else:
                descriptors[f"secret:{name}"] = _filled(value)
        parent = os.getpid()
        try:
            self._main = os.fork()
        except OSError as error:
            error.filename = "fork"
            raise
        if self._main == 0:
            self._become(descriptors, parent)
        for fd in descriptors.values():
            os.close(fd)
        try:
            self._write_process(server=None)
        except OSError:
            _signal(self._main, signal.SIGKILL)  # unrecorded it would be an orphan
            raise

    def _become(self, descriptors: dict[str, int], parent: int) -> None:
        """The child's way into the sandbox; never returns."""
        try:
            os.setsid()
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            _prctl(_PR_SET_NO_NEW_PRIVS, 1)
            if self._config["memory"]:
                import resource

                limit = self._config["memory"]
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            os.umask(0o022)
            argv = [
                word if isinstance(word, str) else str(descriptors[word[1]]) for word in self._config["argv"]
            ]
            for fd in descriptors.values():
                os.set_inheritable(fd, True)
            os.chdir(self._config["cwd"])
            os.execve(argv[0], argv, self._config["env"])  # noqa: S606 - no shell is the point
        except BaseException as error:  # noqa: BLE001 - a fork must never run on as a second keeper
            os.write(2, f"keeper: cannot start the sandbox: {error}\n".encode())
        os._exit(127)

    def _write_secret(self, name: str, value: str) -> None:
        directory = self._config["secret_dir"]
        _make_private(directory)
        fd = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with open(fd, "wb") as file:
            file.write(value.encode())

    def watch(self) -> None:
        """Until the sandbox is gone, and everything it left with it."""
        waking, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(
            wake
        )  # a signal that comes right before a blocking call would else be slept over
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGALRM, self._kill)
        signal.signal(signal.SIGCHLD, _only_wake)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = self._wait(waking)
        _kill_children()
        disowned = self._is_disowned()  # then what is at that path belongs to another sandbox, or to nobody
        secrets = self._config["secret_dir"]
        if secrets and not (disowned and secrets.startswith(self._directory + "/")):
            _reported(_remove_flat, secrets)
        if not disowned:
            _reported(_write, self._directory, "exit.json", f'{{"code": {code}, "at": {time.time():.3f}}}\n')

    def _is_disowned(self) -> bool:
        """Whether its record was removed, or is another sandbox's by now. Only a definite answer counts: a record
        that is damaged, or missing beside a key that is there, is for a person to judge."""
        path = os.path.join(self._directory, "record.json")
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return not os.path.lexists(os.path.join(self._directory, "key"))
        except OSError:
            return False
        return '"instance": "' in text and self._config["instance"] not in text

    def _wait(self, waking: int) -> int:
        """The exit code of the sandbox, 128 and more for a signal; notes the server's process as soon as it serves,
        and ends the sandbox when its record is gone: nobody else could find it any more."""
        poller = select.poll()
        poller.register(waking, select.POLLIN)
        poller.register(self._ready_fd, select.POLLIN)
        next_look = time.monotonic() + _LOOK
        missed = 0
        while True:
            code = self._reap()
            if code is not None:
                return code
            if time.monotonic() >= next_look:
                missed = missed + 1 if self._is_disowned() else 0
                next_look = time.monotonic() + _LOOK
                if missed == 2:
                    self._stop()
            wait = max(0.0, next_look - time.monotonic())
            ready = [fd for fd, _ in poller.poll(wait * 1000 + 1)]
            if waking in ready:
                os.read(waking, 512)
            if self._ready_fd in ready:
                poller.unregister(self._ready_fd)
                self._note_server()

    def _reap(self) -> int | None:
        """Orphans of the sandbox end up here too, and are collected."""
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == self._main:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            if pid == 0:
                return None

    def _note_server(self) -> None:
        if os.read(self._ready_fd, 1):
            self._server = self._find_server()
            if not self._is_disowned():
                _reported(self._write_process, server=self._server)
        os.close(self._ready_fd)

    def _stop(self, *_: object) -> None:
        if self._server:
            _signal(self._server, signal.SIGTERM)
            _signal(self._server, signal.SIGCONT)  # a stopped process would sleep through its own end
            signal.setitimer(signal.ITIMER_REAL, max(0.001, self._config["grace"]))
        else:
            self._kill()

    def _kill(self, *_: object) -> None:
        _signal(self._main, signal.SIGKILL)

    def _find_server(self) -> int:
        """The server's process id as seen from outside: behind bubblewrap it is the first process of its init."""
        pid = self._main
        if self._config["bubblewrap"]:
            for _ in range(2):
                pid = (_children(pid) or [0])[0]
        return pid

    def _write_process(self, *, server: int | None) -> None:
        boot = _read("/proc/sys/kernel/random/boot_id").strip()
        named = {"keeper": os.getpid(), "main": self._main, "server": server}
        parts = [f'"{name}": [{pid}, "{start_time(pid)}"]' for name, pid in named.items() if pid]
        _write(self._directory, "process.json", f'{{"boot": "{boot}", {", ".join(parts)}}}\n')


def start_time(pid: int) -> str:
    """What tells this process from a later one with the same id; "" when there is no such process."""
    if os.path.exists("/proc/self/stat"):
        stat = _read(f"/proc/{pid}/stat")
        return stat[stat.rfind(")") + 2 :].split(" ")[19] if stat else ""
    import subprocess

    words = ["ps", "-o", "lstart=", "-p", str(pid)]
    environment = {"LC_ALL": "C", "PATH": os.defpath}
    answer = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10, env=environment)
    return " ".join(answer.stdout.split())


def _children(pid: int) -> list[int]:
    if os.path.exists(f"/proc/{pid}/task/{pid}/children"):
        return [int(word) for word in _read(f"/proc/{pid}/task/{pid}/children").split()]
    found = []
    for name in os.listdir("/proc") if os.path.exists("/proc/self/stat") else ():
        stat = _read(f"/proc/{name}/stat") if name.isdigit() else ""
        if stat and stat[stat.rfind(")") + 2 :].split(" ")[1] == str(pid):
            found.append(int(name))
    return sorted(found)


def _kill_children() -> None:
    """As the subreaper this process inherits every orphan of the sandbox, daemons too: kill until none is left."""
    while True:
        for pid in _children(os.getpid()):
            _signal(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _prctl(option: int, value: int | bytes) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _filled(text: str) -> int:
    """A descriptor that reads `text`: memory where the system has it, else a pipe filled by a child."""
    data = text.encode()
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("reconciler", 0)
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        os.write(writing, data)
        os._exit(0)
    os.close(writing)
    return reading


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _write(directory: str, name: str, text: str) -> None:
    """Whole or not at all."""
    path = os.path.join(directory, name)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.new", path)


def _reported(function: Callable[..., object], *arguments: object, **named: object) -> None:
    """A full disk must not end the watch: what could not be written is in the log."""
    try:
        function(*arguments, **named)
    except OSError as error:
        os.write(2, f"keeper: {error}\n".encode())


def _make_private(directory: str) -> None:
    """Ours alone, or an error: everybody may make directories in /dev/shm."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        seen = os.lstat(directory)
        if seen.st_uid != os.getuid() or seen.st_mode & 0o170077 != 0o040000:
            raise


def _remove_flat(directory: str) -> None:
    if os.path.isdir(directory):
        for name in os.listdir(directory):
            os.unlink(os.path.join(directory, name))
        os.rmdir(directory)


def _only_wake(*_: object) -> None:
    """A signal without a handler would not wake anybody."""


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
