"""The `remote` backend: sandboxes that a provisioner makes, reached over its HTTP API."""

from reconciler.backends.remote.backend import RemoteSandboxBackend

__all__ = ["RemoteSandboxBackend"]
