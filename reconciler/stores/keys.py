"""The key of the secrets' digests: 32 bytes, given by RECONCILER_STATE_KEY or kept beside the state as 64 hex digits.

Must never put a key into a message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from reconciler.errors import StateCorrupt, StoreError
from reconciler.model.sha256 import sha256

KEY_VARIABLE = "RECONCILER_STATE_KEY"


def given(environ: Mapping[str, str], *, instead: str) -> bytes | None:
    """The key that the environment names, None when it names none. `instead` is what is used without it, for the
    message. Raises StoreError when the variable is empty."""
    text = environ.get(KEY_VARIABLE)
    if text is None:
        return None
    if not text:
        raise StoreError(
            f"{KEY_VARIABLE} is set, but empty",
            hint=f"unset it to use {instead}, or give it the key (CI: is the secret set?)",
        )
    return sha256(text.encode(errors="surrogateescape")).digest()


def new() -> bytes:
    return os.urandom(32)


def encode(key: bytes) -> bytes:
    return key.hex().encode()


def decode(data: bytes, *, place: str) -> bytes:
    """The key that `encode` wrote. Raises StateCorrupt."""
    if not re.fullmatch(rb"[0-9a-f]{64}", data):
        raise StateCorrupt(
            f"{place} is no key: it should be 64 hex digits",
            hint="restore it; without the old key every sandbox with secrets is planned as changed once, "
            "so only then remove it",
        )
    return bytes.fromhex(data.decode())
