"""Secrets as files: where a container finds them, and where they are kept meanwhile.

On an engine of this machine they sit in memory (`/dev/shm`), in a directory that nobody else can enter, and are
mounted read-only, 0400 for the user that the sandbox runs as. An engine elsewhere gets them in a volume of its own,
which is on its disk and goes with the sandbox. Neither shows a value to `inspect`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler.backends.containers import MANAGED_BY, SANDBOX_ID, SECRETS_DIR
from reconciler.backends.docker.engine import Engine
from reconciler.backends.secret_folders import is_whole, keep_private, mark_whole
from reconciler.errors import Conflict, NotFound, Permanent

_VOLUMES = "reconciler-secrets-"  # begins the names of ours; what follows is the sandbox's id and a number of its own
_MEMORY = "/dev/shm"  # noqa: S108 - 0700 below it, and checked


class SecretFiles:
    """The secret files of one engine's sandboxes. `root` None is memory where there is some, else the user's
    runtime or state directory."""

    def __init__(self, engine: Engine, root: str | None = None) -> None:
        self._engine = engine
        self._root = Path(root) if root else _default_root()
        self._shared = engine.is_local  # whether the engine sees the files of this machine

    def deliver(self, sandbox_id: str, values: Mapping[str, str], user: str | None) -> dict[str, Any]:
        """Somewhere for them, of its own each time: an earlier one may be mounted in a container that lives. The
        engine's description of the mount comes back. Raises Permanent where it cannot be done."""
        return self._place(sandbox_id, values, user) if self._shared else self._volume(sandbox_id)

    def keep(self, mount: Mapping[str, Any], values: Mapping[str, str], user: str | None) -> None:
        """For a container that is there, and does not run: files that are gone, as after a reboot, are put back where
        it has them mounted. Raises Permanent where they cannot be."""
        folder = Path(str(mount.get("Source") or ""))
        if mount.get("Type") != "bind":
            return
        if folder.parent.parent == self._root / "docker":
            if not is_whole(folder, values):
                self._write_all(folder, values, user)
        elif not os.path.isdir(folder):
            raise Permanent(
                f"the secrets are gone from {folder}, which is not below {self._root}",
                hint="name the directory that they were below: `secrets_root:` of the backend",
            )

    def fill(
        self, container: str, mount: Mapping[str, Any], values: Mapping[str, str], user: str | None
    ) -> None:
        """Put them into the volume of a container that does not run; files are there already."""
        if mount.get("Type") != "volume" or not str(mount["Source"]).startswith(_VOLUMES):
            return
        client = self._engine.sdk()
        with self._engine.translated():
            client.put_archive(container, SECRETS_DIR, _archive(values, _number(user)))

    def unseen(self, message: str, mount: Mapping[str, Any] | None) -> bool:
        """Whether the engine's error says that it does not see the files of this machine, as for a process that is in
        a container itself. Volumes are used from then on."""
        if mount is None or mount["Type"] != "bind" or str(mount["Source"]) not in message:
            return False
        self._shared = False
        return True

    def discard(self, mount: Mapping[str, Any] | None) -> None:
        """What was delivered for a container that is not there (any more)."""
        source = str((mount or {}).get("Source") or "")
        if mount is None:
            return
        if mount["Type"] == "volume" and source.startswith(_VOLUMES):
            self._remove_volume(source)
        elif mount["Type"] == "bind" and Path(source).parent.parent == self._root / "docker":
            _remove(Path(source))
            with contextlib.suppress(OSError):  # another one is in it
                Path(source).parent.rmdir()

    def remove(self, sandbox_id: str, *, volumes: bool) -> None:
        """Whatever is kept of a sandbox whose container is gone; `volumes` says whether there may be some. Absent is
        success. Raises Permanent when something stays."""
        folder = self._root / "docker" / sandbox_id
        with contextlib.suppress(FileNotFoundError):  # never there, or another destroys it too
            for one in list(folder.iterdir()):
                _remove(one)
            folder.rmdir()
        if volumes or not self._shared:
            labels = json.dumps({"label": [MANAGED_BY, f"{SANDBOX_ID}={sandbox_id}"]})
            for volume in self._engine.get("/volumes", {"filters": labels}).get("Volumes") or ():
                if str(volume["Name"]).startswith(_VOLUMES):
                    self._remove_volume(volume["Name"])

    # -- files of this machine

    def _place(self, sandbox_id: str, values: Mapping[str, str], user: str | None) -> dict[str, Any]:
        folder = self._root / "docker" / sandbox_id / os.urandom(4).hex()
        self._write_all(folder, values, user)
        return {"Type": "bind", "Source": str(folder), "Target": SECRETS_DIR, "ReadOnly": True}

    def _write_all(self, folder: Path, values: Mapping[str, str], user: str | None) -> None:
        """All of them or none. What was left there by halves goes first."""
        uid = None if self._engine.maps_users else _number(user)
        try:
            for parent in (self._root, self._root / "docker", folder.parent):
                self._private(parent)
            if folder.exists():
                _remove(folder)
            folder.mkdir(mode=0o700)
            for name, value in values.items():
                _write(folder / name, value, uid)
            mark_whole(folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                _remove(folder)
            raise Permanent(
                f"secrets cannot be written to {folder}: {error.strerror}",
                hint="make room there, or name another directory of this user's: `secrets_root:` of the backend",
            ) from error

    def _private(self, folder: Path) -> None:
        """Make it, or make sure that it is ours and nobody else's."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        keep_private(folder)

    # -- volumes, for an engine that does not see them

    def _volume(self, sandbox_id: str) -> dict[str, Any]:
        name = f"{_VOLUMES}{sandbox_id}-{os.urandom(4).hex()}"
        client = self._engine.sdk()
        with self._engine.translated():
            client.create_volume(name, labels={MANAGED_BY: "reconciler", SANDBOX_ID: sandbox_id})
        return {"Type": "volume", "Source": name, "Target": SECRETS_DIR, "ReadOnly": False}

    def _remove_volume(self, name: str) -> None:
        client = self._engine.sdk()
        try:
            with self._engine.translated():
                client.remove_volume(name)
        except NotFound:
            return
        except Conflict as error:
            raise Permanent(
                f"the secrets in volume {name} stay, it is in use: {error.message}",
                hint=f"`docker ps -a --filter volume={name}` shows by which container",
            ) from error


def _remove(folder: Path) -> None:
    """Absent is success, whoever removed it. Raises Permanent when it stays: these are secrets."""
    with contextlib.suppress(OSError):
        folder.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise Permanent(f"the secrets in {folder} cannot be removed", hint="remove that directory by hand")


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
