"""Bytes on disk: safe reading, atomic replacing, durable appending, and the guard that excludes other processes.

Must never follow a symbolic link to a file of ours, leave a half-written file under its real name, or let an
OSError out: what the system refuses becomes a StoreError that names the file and the next step.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from reconciler.errors import StoreError

_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # NONBLOCK: a FIFO in the way must not hang us
_MOST = 1024 * 1024 * 1024  # bytes; a state of a hundred thousand sandboxes is a tenth of that
_GUARD_PATIENCE = 10.0  # seconds; a critical section takes milliseconds, so this means a stopped process
_GUARD_POLL = 0.002

_HINTS = {
    errno.ENOSPC: "free some space, then run it again",
    errno.EDQUOT: "free some of the quota, then run it again",
    errno.EIO: "check the disk (the system's log says more), then run it again",
    errno.EACCES: "check owner and mode of the file and its directory",
    errno.EPERM: "check owner and mode of the file and its directory",
    errno.EROFS: "the file system is read-only: choose another `state: {path: …}`",
    errno.ENOTDIR: "a part of the path is a file: choose another `state: {path: …}`",
}


def shown(path: Path) -> str:
    """The path as people know it: relative to where they are, when it is below that."""
    with contextlib.suppress(ValueError, OSError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


@contextlib.contextmanager
def translated(doing: str, path: Path) -> Iterator[None]:
    """Turns OSError into StoreError: "cannot write state/x.json: No space left on device"."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _symlinked(path) from error
        reason = error.strerror or str(error)
        hint = _HINTS.get(error.errno or 0, "")
        raise StoreError(f"cannot {doing} {shown(path)}: {reason}", hint=hint) from error


def _symlinked(path: Path) -> StoreError:
    return StoreError(
        f"{shown(path)} is a symbolic link, which is refused for state",
        hint="put the file itself there, or point `state: {path: …}` at the directory that holds it",
    )


def exists(path: Path) -> bool:
    """Whether anything is there, a dangling link included."""
    with translated("look at", path):
        try:
            path.lstat()
        except FileNotFoundError:
            return False
        return True


def signature(path: Path) -> tuple[int, int, int, int] | None:
    """What changes whenever the file does, None when there is none: comparing it is cheaper than reading."""
    with translated("look at", path):
        try:
            seen = path.lstat()
        except FileNotFoundError:
            return None
        return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def read_bytes(path: Path, *, most: int = -1) -> bytes | None:
    """The whole file, or its first `most` bytes; None when there is none. Raises StoreError for anything but a regular
    file."""
    with translated("read", path):
        try:
            fd = os.open(path, os.O_RDONLY | _SAFE)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as stream:
            seen = os.fstat(fd)
            if not stat.S_ISREG(seen.st_mode):
                raise StoreError(f"{shown(path)} is no regular file", hint="move it away")
            if most < 0 and seen.st_size > _MOST:
                raise StoreError(f"{shown(path)} is larger than any state", hint="move it away")
            return stream.read(most)


def make_directory(path: Path) -> None:
    """Creates it with mode 0700 when it is missing; an existing one keeps its mode."""
    with translated("create the directory", path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)


def make_private(path: Path) -> None:
    """A directory of ours alone: created below an existing one, and closed to others again if somebody opened it."""
    if path.is_symlink():
        raise _symlinked(path)
    with translated("create the directory", path):
        try:
            path.mkdir(mode=0o700)
            sync_directory(path.parent)
        except FileExistsError:
            if not path.is_dir():
                raise StoreError(f"{shown(path)} is no directory", hint="move it away") from None
        if stat.S_IMODE(path.stat().st_mode) != 0o700:
            with contextlib.suppress(PermissionError):  # somebody else's; `reconciler doctor` tells
                path.chmod(0o700)


def replace_file(
    path: Path, data: bytes, *, prefix: str, durable: bool = True, modified: int | None = None
) -> None:
    """Puts `data` under `path` at once or not at all, with mode 0600. `prefix` starts the temporary file's name;
    see `sweep`. `durable` False leaves the moment of reaching the disk to the system. `modified`, in ns since the epoch, is
    when the file shall say that it was written."""
    with translated("write", path):
        if path.is_symlink():
            raise _symlinked(path)
        temporary = path.with_name(prefix + os.urandom(4).hex())
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600)
        try:
            try:
                os.fchmod(fd, 0o600)  # whatever the umask says
                _write_all(fd, data)
                if modified is not None:
                    os.utime(fd, ns=(modified, modified))
                if durable:
                    sync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if durable:
            sync_directory(path.parent)


def sweep(directory: Path, *, prefix: str) -> None:
    """Removes what killed processes left of `replace_file`. Only for the holder of the guard: nobody else may be
    writing. Anything that does not look exactly like such a file stays."""
    leftover = re.compile(re.escape(prefix) + "[0-9a-f]{8}")
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            if leftover.fullmatch(name):
                os.unlink(directory / name)


def append_bytes(path: Path, data: bytes, *, at: int, synced: bool) -> bool:
    """Adds `data` to a file that is `at` bytes long, on the medium if it is to be `synced`, else in the system's hands;
    False, untouched, when it is another length. What a failed write leaves behind is cut off again as far as the
    system lets us."""
    with translated("append to", path):
        try:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | _SAFE)
        except FileNotFoundError:
            return False
        try:
            if os.fstat(fd).st_size != at:
                return False
            try:
                _write_all(fd, data)
                if synced:
                    sync(fd)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, at)
                raise
        finally:
            os.close(fd)
    return True


def remove(path: Path) -> None:
    """Removes the file durably; absent is success."""
    with translated("remove", path):
        try:
            path.unlink()
        except FileNotFoundError:
            return
        sync_directory(path.parent)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync(fd: int) -> None:
    """To the medium. On macOS plain fsync stops at the drive's cache."""
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):  # not every file system there can
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


def sync_directory(path: Path) -> None:
    """Makes a rename or removal in it durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems have no such thing
            raise
    finally:
        os.close(fd)


@contextlib.contextmanager
def guard(path: Path) -> Iterator[None]:
    """Excludes every other thread and process inside; for sections of milliseconds. The kernel lets go of it when
    a process dies. Raises StoreError when it cannot be had for 10 s."""
    with translated("open", path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | _SAFE, 0o600)
    try:
        with translated("lock", path):
            os.fchmod(fd, 0o600)
            _flock(fd, path)
        yield
    finally:
        os.close(fd)


def _flock(fd: int, path: Path) -> None:
    patience_ends = time.monotonic() + _GUARD_PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > patience_ends:
                raise StoreError(
                    f"{shown(path)} has been in use for {_GUARD_PATIENCE:g} s",
                    hint="look for a stopped reconciler process (`ps`), continue or end it",
                ) from None
            time.sleep(_GUARD_POLL)
