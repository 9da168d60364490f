"""SHA-256 from the interpreter itself. `hashlib` loads OpenSSL first, which takes longer than all that a command hashes;
the standard library's own `random` goes the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["sha256"]

if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        from _sha2 import sha256
    except ImportError:
        try:
            from _sha256 import sha256  # before Python 3.12
        except ImportError:  # another implementation of Python
            from hashlib import sha256
