"""State in a PostgreSQL database: snapshot, journal, versions, lock and key of each stack as rows of six tables."""

from reconciler.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
