"""What this backend keeps on the host: a lock per container, and directories with secret files.

Everything is below one directory that nobody else can enter. Secret files live as long as their container, which has
them mounted; they are named after it, so that whatever is left of one goes with its next removal.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from reconciler.backends.secret_folders import is_whole, keep_private, mark_whole
from reconciler.errors import Permanent, Transient

_POLL = 0.01  # seconds between two tries for a lock


def default_root() -> Path:
    """`$XDG_STATE_HOME/reconciler/apple`. Below the home directory, which virtual machines may mount."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.join("~", ".local", "state")
    return Path(state).expanduser() / "reconciler" / "apple"


class Files:
    """Below `root`, made when first needed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextlib.contextmanager
    def locked(self, name: str, timeout: float) -> Iterator[None]:
        """One at a time per container, across threads and processes of this user. The engine's own names keep two
        creations apart, but not a creation from the removal of what another one has only half made. Raises Transient
        after `timeout` seconds."""
        path, deadline = self._folder("locks") / name, time.monotonic() + timeout
        while (descriptor := self._try_lock(path)) is None:
            if time.monotonic() > deadline:
                raise Transient(f"container {name} is being worked on by another process", retry_after=1.0)
            time.sleep(_POLL)
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()  # whoever waits for it looks whether it still is the file it has open
            os.close(descriptor)

    def _try_lock(self, path: Path) -> int | None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise self._unwritable(path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        return None

    def place_secrets(self, name: str, instance: str, values: Mapping[str, str]) -> str:
        """A fresh directory with one read-only file a secret. What is mounted is open to every user inside, as is
        needed for one that is not root; on the host the directories above keep everybody else out."""
        folder = self._folder("secrets", name, instance) / "files"
        try:
            folder.mkdir(mode=0o755)
            for secret, value in values.items():
                descriptor = os.open(
                    folder / secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o444
                )
                with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                    file.write(value)
                    os.fchmod(file.fileno(), 0o444)
            mark_whole(folder)
        except OSError as error:
            self.remove_secrets(name, instance)
            raise self._unwritable(folder, error) from error
        return str(folder)

    def keep_secrets(
        self, name: str, instance: str, values: Mapping[str, str], *, mounted: str | None
    ) -> None:
        """For a container that is there, and does not run: what is not whole of its secrets is made again where it has
        them `mounted`. What it has elsewhere is not ours to make."""
        folder = self.root / "secrets" / name / instance / "files"
        if mounted is None or os.path.realpath(mounted) != os.path.realpath(folder):
            return
        if is_whole(folder, values):
            return
        self.remove_secrets(name, instance)
        self.place_secrets(name, instance, values)

    def remove_secrets(self, name: str, instance: str | None = None) -> None:
        """Those of one instance, or of every one that had the name. Absent is success."""
        folder = self.root / "secrets" / name / (instance or "")
        if folder.is_symlink() or not folder.is_dir():
            return
        try:
            for below in (*folder.glob("files"), *folder.glob("*/files")):
                below.chmod(0o700)
            shutil.rmtree(folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unwritable(folder, error) from error

    def _folder(self, *names: str) -> Path:
        """Made on the way, each 0700 and this user's."""
        folder = self.root
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            keep_private(folder)
            for name in names:
                folder = folder / name
                folder.mkdir(mode=0o700, exist_ok=True)
                keep_private(folder)
        except OSError as error:
            raise self._unwritable(folder, error) from error
        return folder

    def _unwritable(self, path: Path, error: OSError) -> Permanent:
        return Permanent(
            f"{path} cannot be written: {error.strerror}",
            hint=f"make room, or fix the permissions of {self.root}",
        )
