"""Floor 3: where sandboxes run. One file per backend; nobody imports one, the registry loads it by name.

`LocalContainerBackend` and `RemoteSandboxBackend` are public, and loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.backends.local import LocalContainerBackend
    from reconciler.backends.remote import RemoteSandboxBackend

_HOME = {
    "LocalContainerBackend": "reconciler.backends.local",
    "RemoteSandboxBackend": "reconciler.backends.remote",
}

__all__ = ["LocalContainerBackend", "RemoteSandboxBackend"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
