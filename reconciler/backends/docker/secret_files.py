"""Secrets as files: where a container finds them, and where they are kept meanwhile.

On an engine of this machine they sit in memory (`/dev/shm`), in a directory that nobody else can enter, and are
mounted read-only, 0400 for the user that the sandbox runs as. An engine elsewhere gets them in a volume of its own,
which is on its disk and goes with the sandbox. Neither shows a value to `inspect`.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler.backends.containers import MANAGED_BY, SANDBOX_ID, SECRETS_DIR
from reconciler.backends.docker.engine import Engine
from reconciler.errors import Conflict, NotFound, Permanent

_MEMORY = "/dev/shm"  # noqa: S108 - 0700 below it, and checked


class SecretFiles:
    """The secret files of one engine's sandboxes. `root` None is memory where there is some, else the user's
    runtime or state directory."""

    def __init__(self, engine: Engine, root: str | None = None) -> None:
        self._engine = engine
        self._root = Path(root) if root else _default_root()

    def place(self, sandbox_id: str, values: Mapping[str, str], user: str | None) -> dict[str, Any]:
        """Write them; the engine's description of the mount comes back. Raises Permanent where it cannot be done.

        Each time in a directory of its own: an earlier one may be mounted in a container that lives.
        """
        folder = self._folder(sandbox_id) / os.urandom(4).hex()
        uid = _number(user)
        try:
            for parent in (self._root, self._root / "docker", folder.parent):
                self._private(parent)
            folder.mkdir(mode=0o700)
            for name, value in values.items():
                _write(folder / name, value, uid)
            folder.chmod(0o555)
        except OSError as error:
            raise Permanent(
                f"secrets cannot be written to {folder}: {error.strerror}",
                hint="make room there, then apply again",
            ) from error
        return {"Type": "bind", "Source": str(folder), "Target": SECRETS_DIR, "ReadOnly": True}

    def discard(self, mount: Mapping[str, Any]) -> None:
        """What `place` wrote for a container that was not made after all."""
        _remove(Path(str(mount["Source"])))

    def remove(self, sandbox_id: str) -> None:
        """Whatever is kept here of a sandbox. Absent is success."""
        folder = self._folder(sandbox_id)
        if folder.is_dir() and not folder.is_symlink():
            for one in folder.iterdir():
                _remove(one)
            folder.rmdir()

    def _folder(self, sandbox_id: str) -> Path:
        return self._root / "docker" / sandbox_id

    def _private(self, folder: Path) -> None:
        """Make it, or make sure that it is ours and nobody else's."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise Permanent(
                f"{folder} is not this user's directory", hint="remove it: no secret is written there"
            )
        if stat.S_IMODE(found.st_mode) != 0o700:
            folder.chmod(0o700)

    # -- for an engine elsewhere

    def volume(self, sandbox_id: str) -> dict[str, Any]:
        """A fresh volume for them and the description of its mount. `fill` puts them in when the container is
        there."""
        name = _volume_name(sandbox_id)
        client = self._engine.sdk()
        with self._engine.translated():
            client.create_volume(name, labels={MANAGED_BY: "reconciler", SANDBOX_ID: sandbox_id})
        return {"Type": "volume", "Source": name, "Target": SECRETS_DIR, "ReadOnly": False}

    def fill(self, container: str, values: Mapping[str, str], user: str | None) -> None:
        """Into the volume of a container that is not started yet."""
        client = self._engine.sdk()
        with self._engine.translated():
            client.put_archive(container, SECRETS_DIR, _archive(values, _number(user)))

    def remove_volume(self, sandbox_id: str) -> None:
        """The volume of a sandbox, if it is ours. Absent is success."""
        name = _volume_name(sandbox_id)
        client = self._engine.sdk()
        try:
            with self._engine.translated():
                if (client.inspect_volume(name).get("Labels") or {}).get(SANDBOX_ID) == sandbox_id:
                    client.remove_volume(name)
        except NotFound:
            return
        except Conflict as error:
            raise Permanent(f"volume {name} is still in use: {error.message}") from error


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        folder.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _default_root() -> Path:
    if os.path.isdir(_MEMORY) and os.access(_MEMORY, os.W_OK):
        return Path(_MEMORY) / f"reconciler-{os.geteuid()}"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "reconciler"
    return (
        Path(os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser())
        / "reconciler"
        / "secrets"
    )


def _write(path: Path, value: str, uid: int | None) -> None:
    """0400 for a user we can give it to; else readable inside, where the directory above keeps others of this
    machine out."""
    mode = 0o444 if uid is None else 0o400
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(value)
        os.fchmod(file.fileno(), mode)
        if uid is not None and uid != os.geteuid():
            try:
                os.fchown(file.fileno(), uid, -1)
            except PermissionError:
                os.fchmod(file.fileno(), 0o444)


def _number(user: str | None) -> int | None:
    """The user id a sandbox runs as, as far as one can tell from outside: root unless it says otherwise."""
    name = (user or "0").partition(":")[0]
    if name == "root":
        return 0
    return int(name) if name.isdecimal() else None


def _archive(values: Mapping[str, str], uid: int | None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, value in sorted(values.items()):
            data = value.encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.uid, entry.gid = len(data), uid or 0, 0
            entry.mode = 0o444 if uid is None else 0o400
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _volume_name(sandbox_id: str) -> str:
    return f"reconciler-secrets-{sandbox_id}"
