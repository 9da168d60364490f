"""State in a directory: snapshot, backup, journal, lock and key of a stack as files of mode 0600."""

from reconciler.stores.file.store import FileStore

__all__ = ["FileStore"]
