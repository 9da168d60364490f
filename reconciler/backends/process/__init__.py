"""The embedded backend: each sandbox is a detached process on loopback, isolated with bubblewrap where it works."""

from reconciler.backends.process.backend import ProcessBackend

__all__ = ["ProcessBackend"]
