"""The `apple` backend: sandboxes as containers of Apple's `container` command on macOS."""

from reconciler.backends.apple.backend import AppleBackend

__all__ = ["AppleBackend"]
