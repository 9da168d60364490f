"""Texts that were read before: to load a YAML parser and to have it read a thousand lines takes longer than all else that
a plan of them does.

One file each, in the user's cache folder, named after the bytes of the text and after what reads them; it holds the
events. Nothing is kept of a text that has a secret in it, or a mistake. What others put there, or could have, is not
believed, and what the disk refuses is not known.
"""

from __future__ import annotations

import contextlib
import os
import stat
from binascii import crc32
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from reconciler import __version__
from reconciler.config import events
from reconciler.config.cache import folder_of, identity, make_room
from reconciler.model.sha256 import sha256

MOST, MOST_BYTES = 32, 64 * 1024 * 1024  # files, and bytes in them all; then all begins anew
_FORMAT = 1  # of what is kept


class Readings:
    """Those of a folder, which need not be there."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Readings | None:
        """None where there is no place for a cache."""
        folder = folder_of(environ, "read")
        return None if folder is None else cls(folder)

    def find(self, text: str) -> list[events.Event] | None:
        """The events of the text; None where they are not known."""
        try:
            data = self._read(self._path(text))
            if data is not None and data[:4] == _sum(data[4:]):
                return _decoder().decode(data[4:])
        except (OSError, msgspec.MsgspecError, UnicodeError):
            pass
        return None

    def keep(self, text: str, told: Sequence[events.Event]) -> None:
        with contextlib.suppress(OSError, RecursionError, UnicodeError):
            data = msgspec.msgpack.encode(told, enc_hook=_place)
            make_room(self._folder, files=MOST, size=len(data), total=MOST_BYTES)
            path = self._path(text)
            beside = f"{path}.{os.getpid()}"
            fresh = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(beside, os.O_WRONLY | fresh, 0o600), "wb") as file:
                file.write(_sum(data) + data)
            os.rename(beside, path)

    def _path(self, text: str) -> str:
        read = f"{__version__}\0{_FORMAT}\0{identity('yaml')}\0{text}"
        return os.path.join(self._folder, sha256(read.encode()).hexdigest())

    def _read(self, path: str) -> bytes | None:
        """None where somebody else may have written it."""
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            ours = (
                stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
            )
            return file.read() if ours else None


def recorded(told: Iterator[events.Event], into: list[events.Event]) -> Iterator[events.Event]:
    """The same, and kept on the way."""
    for event in told:
        into.append(event)
        yield event


def _place(mark: Any) -> tuple[int, int]:
    """A parser's own mark as it is kept."""
    return mark.line, mark.column


def _sum(data: bytes) -> bytes:
    return crc32(data).to_bytes(4, "big")


def _decoder() -> msgspec.msgpack.Decoder[list[events.Event]]:
    return msgspec.msgpack.Decoder(list[events.Event])
