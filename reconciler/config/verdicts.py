"""Which documents were found valid before: loading the validator takes longer than all else that reads a configuration.

An empty file each, in the user's cache folder, named after the bytes of the document and of the schema, and after what
reads and judges them. What others put there is left alone. Only that a document is valid is kept, never what is wrong with
one. What the disk refuses is not known.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping

from reconciler import __version__
from reconciler.config.installed import identity
from reconciler.config.schemas import schema_text
from reconciler.model.sha256 import sha256

MOST = 256  # files; then all begins anew
_OURS = re.compile("[0-9a-f]{64}")


class Verdicts:
    """Those of a folder, which need not be there."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Verdicts | None:
        """None where there is no place for a cache."""
        home = environ.get("XDG_CACHE_HOME") or os.path.join(environ.get("HOME", ""), ".cache")
        return cls(os.path.join(home, "reconciler", "valid")) if os.path.isabs(home) else None

    def knows(self, digest: str) -> bool:
        """Whether the document of this digest is valid for sure."""
        return os.path.isfile(self._path(digest))

    def keep(self, digest: str) -> None:
        with contextlib.suppress(OSError, RecursionError):  # the latter where the path is absurdly deep
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            kept = [name for name in os.listdir(self._folder) if _OURS.fullmatch(name)]
            if len(kept) >= MOST:
                for name in kept:
                    os.unlink(os.path.join(self._folder, name))
            fresh = os.O_CREAT | os.O_EXCL  # neither through a link, nor into a pipe that nobody reads
            os.close(os.open(self._path(digest), os.O_WRONLY | os.O_CLOEXEC | fresh, 0o600))

    def _path(self, digest: str) -> str:
        name = f"{__version__}\0{digest}\0{_validator()}\0{schema_text('config')}"
        return os.path.join(self._folder, sha256(name.encode()).hexdigest())


def _validator() -> str:
    """Another one, or another version of it, may judge otherwise."""
    return identity("jsonschema_rs")
