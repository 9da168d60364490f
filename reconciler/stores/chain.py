"""What a line of a sealed journal hooks into: its number, and a digest over everything before it.

It goes into what the line is sealed as, so a line opens at its own place alone. The first link stands for what the
journal builds on: the file store's header, the postgres store's snapshot. Must never depend on a key: where the next
line goes is found without opening one.
"""

from __future__ import annotations

from msgspec import Struct

from reconciler.model.sha256 import sha256


class Chain(Struct, frozen=True, kw_only=True):
    """`count` texts are there, `digest` is over all of them."""

    count: int = 0
    digest: bytes = b""

    def after(self, text: bytes) -> Chain:
        """The chain once this text, as it is kept, follows."""
        return Chain(count=self.count + 1, digest=sha256(self.digest + text).digest())

    @property
    def kind(self) -> str:
        """What the next line is sealed as."""
        return f"journal {self.count} {self.digest.hex()}"
