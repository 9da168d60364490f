"""Terraform's discipline for agent sandboxes: the public names, each loaded when first used.

Importing this package must stay nearly free: `reconciler --version` and every third party's backend pay for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from reconciler.backends.base import SandboxBackend
    from reconciler.backends.local import LocalContainerBackend
    from reconciler.backends.remote import RemoteSandboxBackend
    from reconciler.engine.ready import wait_for_sandbox_ready, wait_for_sandbox_ready_async
    from reconciler.model.desired import SandboxSpec
    from reconciler.model.observed import SandboxInfo

_HOME = {
    "LocalContainerBackend": "reconciler.backends.local",
    "RemoteSandboxBackend": "reconciler.backends.remote",
    "SandboxBackend": "reconciler.backends.base",
    "SandboxInfo": "reconciler.model.observed",
    "SandboxSpec": "reconciler.model.desired",
    "wait_for_sandbox_ready": "reconciler.engine.ready",
    "wait_for_sandbox_ready_async": "reconciler.engine.ready",
}

__all__ = [
    "LocalContainerBackend",
    "RemoteSandboxBackend",
    "SandboxBackend",
    "SandboxInfo",
    "SandboxSpec",
    "__version__",
    "wait_for_sandbox_ready",
    "wait_for_sandbox_ready_async",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
