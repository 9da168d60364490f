"""Credentials by reference: `{env: NAME}`, `{file: PATH}` or `{command: [PROGRAM, …]}`, read when they are needed.

Must never put a value, a file's content or what a command printed into a message.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reconciler.errors import ConfigError, StoreError

_TIMEOUT = 60.0  # seconds
_LARGEST = 1024 * 1024  # bytes


def name_of(reference: Mapping[str, Any]) -> str:
    """For messages: the variable's name, the path, the program."""
    if "env" in reference:
        return str(reference["env"])
    if "file" in reference:
        return f"of the file {reference['file']}"
    return f"of the command {next(iter(reference.get('command', ())), '')}"


def check_reference(reference: object, *, where: str) -> Mapping[str, Any]:
    """The reference, if it is one: the schema has checked what comes from a file, but not what comes from elsewhere.
    Raises ConfigError."""
    if isinstance(reference, Mapping):
        kinds = [kind for kind in ("env", "file", "command") if reference.get(kind)]
        if len(kinds) == 1:
            return reference
    raise ConfigError(
        f"{where} is no reference", hint="write {env: NAME}, {file: PATH} or {command: [PROGRAM]}"
    )


def read_reference(
    reference: Mapping[str, Any], *, what: str, directory: Path, environ: Mapping[str, str]
) -> str:
    """The value, without one trailing newline. `what` names it for messages: "the encryption key". Relative paths are
    relative to `directory`. Raises StoreError for what cannot be had, and for an empty value."""
    name = name_of(reference)
    if "env" in reference:
        value = environ.get(str(reference["env"]))
        if value is None:
            raise StoreError(
                f"{what} {name} is not set", hint=f"set the environment variable {name} for this run"
            )
    elif "file" in reference:
        value = _of_file(directory / os.path.expanduser(str(reference["file"])), what)
    else:
        value = _of_command([str(word) for word in reference["command"]], what)
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise StoreError(
            f"{what} {name} is empty", hint="give it a value (in a pipeline: is the secret set?)"
        )
    return value


def _of_file(path: Path, what: str) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it cannot be read"
        raise StoreError(
            f"{what} of the file {path}: {reason}", hint="check the path and its permissions"
        ) from error
    if len(content) > _LARGEST:
        raise StoreError(f"{what}: the file {path} is larger than 1 MiB", hint="name a smaller file")
    return content.decode(errors="surrogateescape")


def _of_command(words: Sequence[str], what: str) -> str:
    import subprocess  # only who has such a reference pays for it

    try:
        done = subprocess.run(list(words), capture_output=True, timeout=_TIMEOUT, check=True)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        code = getattr(error, "returncode", None)
        how = "did not work" if code is None else f"ended with exit code {code}"
        raise StoreError(f"{what}: the command {words[0]} {how}", hint="run it by hand and see") from None
    return done.stdout.decode(errors="surrogateescape")
