"""Which documents were found valid before: loading the validator takes longer than all else that reads a configuration.

An empty file each, in the user's cache folder, named after the bytes of the document and of the schema, and after what
reads and judges them. What others put there is left alone. Only that a document is valid is kept, never what is wrong with
one. What the disk refuses is not known.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from reconciler import __version__
from reconciler.config.cache import folder_of, identity, make_room
from reconciler.config.schemas import schema_text
from reconciler.model.sha256 import sha256

MOST = 256  # files; then all begins anew


class Verdicts:
    """Those of a folder, which need not be there."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Verdicts | None:
        """None where there is no place for a cache."""
        folder = folder_of(environ, "valid")
        return None if folder is None else cls(folder)

    def knows(self, digest: str) -> bool:
        """Whether the document of this digest is valid for sure."""
        return os.path.isfile(self._path(digest))

    def keep(self, digest: str) -> None:
        with contextlib.suppress(OSError, RecursionError):  # the latter where the path is absurdly deep
            make_room(self._folder, files=MOST)
            fresh = os.O_CREAT | os.O_EXCL  # neither through a link, nor into a pipe that nobody reads
            os.close(os.open(self._path(digest), os.O_WRONLY | os.O_CLOEXEC | fresh, 0o600))

    def _path(self, digest: str) -> str:
        name = f"{__version__}\0{digest}\0{_validator()}\0{schema_text('config')}"
        return os.path.join(self._folder, sha256(name.encode()).hexdigest())


def _validator() -> str:
    """Another one, or another version of it, may judge otherwise."""
    return identity("jsonschema_rs")
