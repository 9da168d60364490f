"""What is on disk: one directory per sandbox under the root, made whole or not at all, read without a lock.

`record.json` says what was meant and is there before anything is started; `process.json` and `exit.json` are the
keeper's. Never holds a secret: the spec is canonical (digests), the API key has a file of its own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import json
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct, field, to_builtins
from msgspec.structs import replace

from reconciler.backends.process.processes import Process
from reconciler.errors import Conflict, NoSpace, Permanent, Transient, Unavailable
from reconciler.model.desired import FlatSpec, Owner

FORMAT = "1"
_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # NONBLOCK: a FIFO in the way must not hang us
SANDBOX_ID = re.compile(r"[a-z0-9]([-a-z0-9]{0,49}[a-z0-9])?")
_INSTANCE = re.compile(r"[0-9a-f]{16}")
_KINDS = {
    "instance": str, "host": str, "port": int, "created_at": float, "isolation": str, "secret_dir": str, "spec": dict,
    "labels": dict,
}  # fmt: skip
_SCALARS = (str, int, float, bool)
_LATEST = 1e11  # seconds since the epoch; the year 5138
_MOST_GENERATIONS = 10**18
_MOST_PROCESSES = 2**31
_MOST = 16 * 1024 * 1024  # bytes of a file of ours
_TRASH_AGE = 60.0  # seconds after which what a killed destroy left behind is swept


class Record(Struct, frozen=True, kw_only=True):
    """`instance` is drawn anew for each creation and tells this sandbox from a later one of the same id; a restart
    keeps it."""

    sandbox_id: str
    instance: str
    created_at: float
    host: str
    port: int
    isolation: str
    owner: Owner | None = None
    thread_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    spec: FlatSpec = field(default_factory=dict)
    secret_dir: str = ""
    extra_mounts: tuple[tuple[str, str, bool], ...] = ()  # beside those of its specification

    def to_json(self) -> str:
        data = {name: getattr(self, name) for name in self.__struct_fields__}
        data["owner"] = None if self.owner is None else to_builtins(self.owner)
        text = json.dumps({"format": FORMAT, **data, "labels": dict(self.labels), "spec": dict(self.spec)})
        try:
            return msgspec.json.format(text, indent=1)  # `json` itself leaves cycles behind when it indents
        except msgspec.DecodeError:  # a lone surrogate, which it takes for no text
            return text

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Raises ValueError, KeyError or TypeError for anything that `to_json` did not write."""
        data = parsed(text)
        if data.pop("format") != FORMAT:
            raise ValueError("written by a newer version")
        owner = data.pop("owner")
        extra = tuple(
            (source, target, bool(read_only)) for source, target, read_only in data.pop("extra_mounts", ())
        )
        record = cls(**data, owner=None if owner is None else Owner(**owner), extra_mounts=extra)
        _check(record)
        return record


def _check(record: Record) -> None:
    """Raises TypeError or ValueError for what would lead somewhere else: what is ended and removed later hangs on it."""
    for name, kind in _KINDS.items():
        if type(getattr(record, name)) is not kind:
            raise TypeError(f"{name} has the wrong type")
    mounts = (text for source, target, _ in record.extra_mounts for text in (source, target))
    texts = (record.thread_id or "", *mounts, *record.labels, *record.labels.values(), *record.spec)
    scalars = (value for value in record.spec.values() if value is not None)
    if not all(isinstance(text, str) for text in texts) or not all(type(v) in _SCALARS for v in scalars):
        raise TypeError("labels or spec hold the wrong types")
    if not _INSTANCE.fullmatch(record.instance):
        raise ValueError("instance is none")
    if not (0 <= record.port <= 65535 and 0 <= record.created_at < _LATEST):
        raise ValueError("port or created_at is out of range")
    ipaddress.ip_address(record.host)
    if record.owner is not None:
        _check_owner(record.owner)


def _check_owner(owner: Owner) -> None:
    for text in (owner.stack, owner.lineage, owner.address, owner.spec_hash):
        if not isinstance(text, str):
            raise TypeError("owner has the wrong type")
    if (
        type(owner.generation) is not int
        or not 0 <= owner.generation < _MOST_GENERATIONS
        or not owner.address
    ):
        raise ValueError("owner makes no sense")
    if type(owner.protected) is not bool:
        raise TypeError("owner has the wrong type")


def parsed(text: str) -> dict[str, Any]:
    """An object of JSON. Raises ValueError for anything else, however deep it is nested."""
    try:
        data = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(data, dict):
        raise ValueError("it is no object")
    return data


class Processes(Struct, frozen=True, kw_only=True):
    """What the keeper wrote: itself, the process it started, and the server in it (the same without bubblewrap)."""

    keeper: Process
    main: Process
    server: Process | None = None


class Directory:
    """The root, by path. `path(id)` is where a sandbox is."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._locks = os.path.join(root, ".locks")
        self._trash = os.path.join(root, ".trash")

    def path(self, sandbox_id: str, *more: str) -> str:
        if not SANDBOX_ID.fullmatch(sandbox_id):
            raise Permanent(
                f"{sandbox_id!r} cannot be a sandbox id",
                hint="use 1 to 51 of a-z, 0-9 and -, beginning and ending with a letter or digit",
            )
        return os.path.join(self.root, sandbox_id, *more)

    def ids(self) -> list[str]:
        """Every name under the root that could be a sandbox, sorted; no root yet is none."""
        try:
            return sorted(name for name in os.listdir(self.root) if SANDBOX_ID.fullmatch(name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Transient(
                f"cannot list {self.root}: {error.strerror}", hint="check its permissions"
            ) from error

    def make_root(self) -> None:
        try:
            for path in (self.root, self._locks, self._trash):
                os.makedirs(path, mode=0o700, exist_ok=True)
        except OSError as error:
            raise storage_error("write", self.root, error) from error

    @contextlib.contextmanager
    def locked(self, sandbox_id: str, timeout: float) -> Iterator[int]:
        """One at a time per sandbox, across threads and processes; gives the lock's descriptor."""
        self.path(sandbox_id)
        self.make_root()
        path = os.path.join(self._locks, sandbox_id)
        deadline = time.monotonic() + timeout
        while (fd := _try_lock(path)) is None:
            if time.monotonic() > deadline:
                raise Transient(
                    f"sandbox {sandbox_id} is being worked on by another process", retry_after=1.0
                )
            time.sleep(0.005)
        try:
            yield fd
        finally:
            if not os.path.lexists(self.path(sandbox_id)):
                with contextlib.suppress(OSError):  # it is only tidying: what was done under the lock is done
                    os.unlink(path)
            os.close(fd)

    def is_locked(self, sandbox_id: str) -> bool:
        """Whether somebody works on it right now. Changes nothing."""
        try:
            fd = os.open(os.path.join(self._locks, sandbox_id), os.O_RDONLY | _SAFE)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(fd)

    def record(self, sandbox_id: str) -> Record | None:
        """None only when nothing is there. Raises Conflict for something that is not a sandbox of ours, Permanent
        for a record that cannot be read."""
        path = self.path(sandbox_id)
        try:
            text = read_text(os.path.join(path, "record.json"))
        except (FileNotFoundError, NotADirectoryError):
            if os.path.lexists(self.root) and not os.path.isdir(self.root):
                raise Permanent(
                    f"{self.root} is not a directory", hint="give the backend another `root`"
                ) from None
            if not os.path.lexists(path):
                return None
            if os.path.exists(os.path.join(path, "key")):  # ours once: what it is now nobody can tell
                raise _broken(path, "it is missing") from None
            raise Conflict(
                f"{path} is there, but holds no sandbox of ours",
                hint="move it away, or give the backend another `root`",
            ) from None
        except OSError as error:
            raise storage_error("read", path, error) from error
        try:
            record = Record.from_json(text)
            if record.sandbox_id != sandbox_id:
                raise ValueError(f"it is about {str(record.sandbox_id)[:60]!r}")
            if not _is_for_secrets(record, path):
                raise ValueError(
                    "its secret_dir is none of ours"
                )  # it will be removed with all that is in it
        except (ValueError, KeyError, TypeError) as error:
            raise _broken(path, str(error)) from error
        return record

    def processes(self, sandbox_id: str) -> Processes | None:
        """None when the keeper never came to write it."""
        try:
            data = parsed(read_text(os.path.join(self.root, sandbox_id, "process.json")))
            found = {
                name: Process(pid=_pid(data[name][0]), start=str(data[name][1]), boot=str(data["boot"]))
                for name in ("keeper", "main", "server")
                if name in data
            }
            return Processes(keeper=found["keeper"], main=found["main"], server=found.get("server"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise Permanent(f"{self.root}/{sandbox_id}/process.json cannot be read: {error}") from error

    def exit_code(self, sandbox_id: str) -> int | None:
        """None when its end was not seen, or it has not ended."""
        found = self.exit(sandbox_id)
        return None if found is None else found[0]

    def exit(self, sandbox_id: str) -> tuple[int, float | None] | None:
        """Exit code, and when that was in seconds since the epoch."""
        try:
            data = parsed(read_text(os.path.join(self.root, sandbox_id, "exit.json")))
            at = data.get("at")
            return int(data["code"]), float(at) if isinstance(
                at, (int, float)
            ) and 0 <= at < _LATEST else None
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None

    def place(self, record: Record, key: str) -> None:
        """The whole directory at once: prepared in the trash, where what a kill leaves is swept one day, then renamed."""
        final, staging = self.path(record.sandbox_id), self._staging(record.sandbox_id)
        remove_tree(staging)
        os.mkdir(staging, 0o700)
        for name in ("workspace", "tmp"):
            os.mkdir(os.path.join(staging, name), 0o700)
        _write_new(os.path.join(staging, "key"), key)
        _write_new(os.path.join(staging, "record.json"), record.to_json(), sync=True)
        _sync_directory(staging)
        os.rename(staging, final)
        _sync_directory(self.root)

    def _staging(self, sandbox_id: str) -> str:
        return os.path.join(self._trash, f".new-{sandbox_id}")

    def rewrite(self, record: Record) -> None:
        path = self.path(record.sandbox_id, "record.json")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}.new")
        _write_new(f"{path}.new", record.to_json(), sync=True)
        os.replace(f"{path}.new", path)
        _sync_directory(os.path.dirname(path))

    def forget_exit(self, sandbox_id: str) -> None:
        """How it ended says nothing about the run that follows."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(sandbox_id, "exit.json"))

    def remove(self, sandbox_id: str) -> None:
        """Out of sight in one step, then deleted. Leftovers of others that were killed half way go too."""
        remove_tree(self._staging(sandbox_id))
        gone = os.path.join(self._trash, f"{sandbox_id}-{os.urandom(6).hex()}")
        try:
            os.rename(self.path(sandbox_id), gone)
        except FileNotFoundError:
            return
        os.utime(gone)
        _sync_directory(self.root)
        remove_tree(gone)
        for name in os.listdir(self._trash):
            path = os.path.join(self._trash, name)
            with contextlib.suppress(FileNotFoundError):
                if time.time() - os.lstat(path).st_mtime > _TRASH_AGE:
                    remove_tree(path)


def _broken(path: str, why: str) -> Permanent:
    return Permanent(
        f"{path}/record.json cannot be read: {why}",
        hint=f"end what still runs of it, then remove {path} by hand",
    )


def storage_error(verb: str, path: str, error: OSError) -> Permanent | Unavailable:
    """What the file system refused, as an answer of the backend: Permanent where somebody has to act first.
    `verb` is "read" or "write", `path` stands in where the system names none."""
    at = error.filename if isinstance(error.filename, str) else path
    message = f"cannot {verb} {at}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(message, hint="free some space there, or give the backend another `root`")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        able = "writable" if verb == "write" else "readable"
        return Permanent(message, hint=f"make it {able}, or give the backend another directory as `root`")
    return Unavailable(message, hint="check the file system and the limits of this user")


@contextlib.contextmanager
def storage_errors(verb: str, path: str) -> Iterator[None]:
    """Every OSError inside as a `storage_error`."""
    try:
        yield
    except OSError as error:
        raise storage_error(verb, path, error) from error


def with_labels(record: Record, *, owner: Owner | None, labels: Mapping[str, str]) -> Record:
    kept = {path: value for path, value in record.spec.items() if not path.startswith("labels.")}
    spec = {**kept, **{f"labels.{name}": value for name, value in labels.items()}}
    return replace(record, owner=owner, labels=dict(labels), spec=dict(sorted(spec.items())))


def remove_tree(path: str) -> None:
    """Everything below too, read-only directories included; links are removed, not followed. Absent is fine."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        os.chmod(path, 0o700)
        with os.scandir(path) as entries:
            below = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for entry_path, is_directory in below:
            if is_directory:
                remove_tree(entry_path)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry_path)
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Transient(f"cannot remove {path}: {error.strerror}", retry_after=0.5) from error


def _is_for_secrets(record: Record, path: str) -> bool:
    if record.secret_dir in ("", memory_dir(record.instance), os.path.join(path, "secrets")):
        return True
    return record.secret_dir == os.path.realpath(os.path.join(path, "secrets"))


def _pid(value: object) -> int:
    if type(value) is not int or not 0 < value < _MOST_PROCESSES:
        raise ValueError("a process id that is none")
    return value


def memory_dir(instance: str) -> str:
    """Where secrets are kept in memory, without bubblewrap."""
    return f"/dev/shm/reconciler-{os.getuid()}-{instance}"  # noqa: S108 - 0700 and unguessable


def read_text(path: str) -> str:
    """Of a file of ours. A link is not followed, a FIFO not waited for, and what is larger than any of ours not read: each
    is an OSError."""
    fd = os.open(path, os.O_RDONLY | _SAFE)
    try:
        seen = os.fstat(fd)
        if stat.S_ISDIR(seen.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(seen.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        if seen.st_size > _MOST:
            raise OSError(errno.EFBIG, "it is larger than any file of ours", path)
        data = os.read(fd, 64 * 1024)
        while len(data) % (64 * 1024) == 0 and (more := os.read(fd, 1024 * 1024)):
            data += more
        return data.decode("utf-8", "replace")  # what is no text is refused by whoever parses it
    finally:
        os.close(fd)


def _try_lock(path: str) -> int | None:
    """The descriptor of the locked file, if it is free and still the one at that path."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | _SAFE, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino == os.stat(path).st_ino:
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _write_new(path: str, text: str, *, sync: bool = False) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(text.encode())
        if sync:
            file.flush()
            os.fsync(file.fileno())


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems sync no directories
            raise
    finally:
        os.close(fd)
