"""What a store keeps, as somebody sees it who may read and write there and has no key: named texts, the lock left out.

`texts` has them all and `put` replaces one. A journal's texts are its entries alone; `put_journal` makes right around
them whatever can be made right without a key, checksums and numbers.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from reconciler.stores.base import Store
from reconciler.stores.kubernetes import index
from reconciler.stores.sealing import PLAIN, Sealer
from reconciler.testing.store_conformance import STACK
from tests.stores import clusters, databases, http_places, places
from tests.support.kubernetes.cluster import running
from tests.support.states import keeping


class Kept:
    """In a directory."""

    snapshot, key, version = f"{STACK}.json", f"{STACK}.key", f"{STACK}.history/1.json"
    later_version = f"{STACK}.history/2.json"
    keeps_journal = keeps_history = keeps_key = True
    in_clear: tuple[bytes, ...] = ()

    def __init__(self, home: Path) -> None:
        self.home = home
        self.stores: list[Store] = []

    def store(self, sealer: Sealer = PLAIN, environ: Mapping[str, str] | None = None) -> Store:
        return self._noted(places.a_store(self.home, sealer=sealer, environ=environ))

    def _noted(self, store: Store) -> Store:
        self.stores.append(store)
        return store

    def close(self) -> None:
        for store in self.stores:
            store.close()

    def options(self) -> dict[str, Any]:
        """What to write under `state:`."""
        return {"store": "file", "path": str(self.home)}

    def texts(self) -> dict[str, bytes]:
        found = [p for p in self.home.rglob("*") if p.is_file() and not p.name.startswith(f"{STACK}.lock")]
        return {str(path.relative_to(self.home)): path.read_bytes() for path in sorted(found)}

    def put(self, name: str, data: bytes) -> None:
        (self.home / name).write_bytes(data)

    def everything(self) -> bytes:
        """All that can be read there, and all that went over a wire."""
        return b"\n".join(self.texts().values())

    def journal(self) -> list[bytes]:
        """The header, and each entry."""
        lines = (self.home / f"{STACK}.journal.jsonl").read_bytes().splitlines()
        return [json.dumps(json.loads(line)["entry"], separators=(",", ":")).encode() for line in lines]

    def put_journal(self, texts: Sequence[bytes]) -> None:
        crc, lines = 0, []
        for text in texts:
            crc = zlib.crc32(text, crc)
            lines.append(b'{"crc":"%08x","entry":%s}\n' % (crc, text))
        self.put(f"{STACK}.journal.jsonl", b"".join(lines))


class KeptInDatabase(Kept):
    """In PostgreSQL. The text of a row is named after its table, and after its number where it has one."""

    snapshot, key, version, later_version = "state", "key", "version 1", "version 2"
    in_clear = (b"a-lineage",)
    _COLUMNS: Mapping[str, tuple[str, str]] = {
        "state": ("snapshot", "0"),
        "version": ("snapshot", "serial"),
        "journal": ("entry", "number"),
        "key": ("key", "0"),
    }

    def __init__(self, home: Path, url: str) -> None:
        super().__init__(home)
        self.url = url
        self.schema = databases.schema_of(home)
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def store(self, sealer: Sealer = PLAIN, environ: Mapping[str, str] | None = None) -> Store:
        return self._noted(databases.a_store(self.url, self.home, sealer=sealer, environ=environ))

    def options(self) -> dict[str, Any]:
        return {"store": "postgres", "url": self.url, "schema": self.schema}

    def psql(self, statement: str, values: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        if self._connection is None:
            self._connection = psycopg.connect(
                self.url, autocommit=True, options=f"-c search_path={self.schema} -c synchronous_commit=off"
            )
        cursor = self._connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description is not None else []

    def close(self) -> None:
        super().close()
        if self._connection is not None:
            self._connection.close()

    def texts(self) -> dict[str, bytes]:
        found = {}
        for table, (column, number) in self._COLUMNS.items():
            rows = self.psql(f"select {number}, {column} from reconciler_{table} order by 1")
            found |= {f"{table} {of}".removesuffix(" 0"): text.encode() for of, text in rows}
        return found

    def put(self, name: str, data: bytes) -> None:
        table, _, of = name.partition(" ")
        column, number = self._COLUMNS[table]
        self.psql(
            f"update reconciler_{table} set {column} = %s where {number} = %s", (data.decode(), int(of or 0))
        )

    def everything(self) -> bytes:
        tables = [*self._COLUMNS, "layout", "lock"]
        rows = [self.psql(f"select t::text from reconciler_{table} t") for table in tables]
        return b"\n".join(row[0].encode() for found in rows for row in found)

    def rows(self) -> dict[str, list[str]]:
        """All of it, the lock's row too, to be restored."""
        tables = (*self._COLUMNS, "lock")
        return {
            table: [row for (row,) in self.psql(f"select to_json(t)::text from reconciler_{table} t")]
            for table in tables
        }

    def restore(self, rows: Mapping[str, list[str]]) -> None:
        for table, texts in rows.items():
            name = f"reconciler_{table}"
            self.psql(f"delete from {name}")
            self.psql(
                f"insert into {name} overriding system value "
                f"select (json_populate_record(null::{name}, line::json)).* from unnest(%s::text[]) line",
                (texts,),
            )

    def journal(self) -> list[bytes]:
        return [text for name, text in self.texts().items() if name.startswith("journal ")]

    def put_journal(self, texts: Sequence[bytes]) -> None:
        [(base, fence)] = self.psql("select distinct base, fence from reconciler_journal")
        self.psql("delete from reconciler_journal")
        for number, text in enumerate(texts, 1):
            self.psql(
                "insert into reconciler_journal values (%s, %s, %s, %s, 'a-lineage', %s)",
                (STACK, base, number, fence, text.decode()),
            )


class KeptOnServer(Kept):
    """On a server with GitLab's manners, which takes nothing without a serial."""

    snapshot = "state"
    keeps_journal = keeps_history = keeps_key = False
    in_clear = (b"a-lineage",)

    def __init__(self, home: Path, kind: str = "gitlab") -> None:
        super().__init__(home)
        self._keeping = keeping(kind)
        self.server = self._keeping.__enter__()

    def store(self, sealer: Sealer = PLAIN, environ: Mapping[str, str] | None = None) -> Store:
        return self._noted(http_places.a_store(self.server, sealer=sealer, environ=environ or {}))

    def close(self) -> None:
        super().close()
        self._keeping.__exit__(None, None, None)

    def options(self) -> dict[str, Any]:
        return {"store": "http", **self.server.options()}

    def texts(self) -> dict[str, bytes]:
        return {"state": self.server.kept().body or b""}

    def put(self, name: str, data: bytes) -> None:
        self.server.kept().body = data

    def everything(self) -> bytes:
        return b"\n".join(request.body for request in self.server.requests)


class KeptInCluster(Kept):
    """In a cluster. A text is named after what it is, and after its number where it has one."""

    snapshot, key, version, later_version = "snapshot", "key", "version 1", "version 2"
    in_clear = (b"a-lineage",)

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._running = running(nodes=False)
        self.cluster = self._running.__enter__()
        self.kubeconfig = self.cluster.kubeconfig(home / "kubeconfig")

    def store(self, sealer: Sealer = PLAIN, environ: Mapping[str, str] | None = None) -> Store:
        return self._noted(clusters.a_store(self.kubeconfig, sealer=sealer, environ=environ))

    def close(self) -> None:
        super().close()
        self._running.__exit__(None, None, None)

    def options(self) -> dict[str, Any]:
        return {"store": "kubernetes", "kubeconfig": str(self.kubeconfig)}

    def secret(self, name: str) -> dict[str, Any]:
        found = self.cluster.get("secrets", name)
        assert found is not None
        return found

    def head(self) -> index.Head:
        return index.head_of(self.secret(clusters.NAME), place="", stack=STACK)

    def _parts(self) -> dict[str, str]:
        """By the name of a text, the Secret that it is in."""
        at = self.head().index
        assert at.snapshot is not None
        there = {f"version {kept.serial}": kept.parts for kept in at.versions} | {
            "snapshot": at.snapshot.parts
        }
        return {name: part for name, (part,) in there.items()}

    def texts(self) -> dict[str, bytes]:
        found = {
            name: index.unpack(index.content(self.secret(part), "part"), place="")
            for name, part in self._parts().items()
        }
        if self.cluster.get("secrets", f"{clusters.NAME}.key"):
            found["key"] = index.content(self.secret(f"{clusters.NAME}.key"), "key")
        lines = index.unpack(self.head().tail, place="").splitlines()
        return {**found, **{f"journal {number}": line for number, line in enumerate(lines, 1)}}

    def put(self, name: str, data: bytes) -> None:
        if name.startswith("journal "):
            lines = self.journal()
            lines[int(name.split()[1]) - 1] = data
            self.put_journal(lines)
        elif name == "key":
            self.replace(f"{clusters.NAME}.key", "key", data)
        else:
            self.replace(self._parts()[name], "part", index.pack(data))

    def replace(self, secret: str, key: str, data: bytes) -> None:
        """Past every rule of the server, as who has its disk."""
        found = self.secret(secret)
        changed = {**found, "data": {**found["data"], key: base64.b64encode(data).decode()}}
        with self.cluster.storage.lock:
            self.cluster.storage.put(("secrets", "default", secret), changed)

    def everything(self) -> bytes:
        sent = [json.loads(request.body) for request in self.cluster.log if request.body]
        return b"\n".join(text for thing in sent for text in (_unpacked(thing), json.dumps(thing).encode()))

    def journal(self) -> list[bytes]:
        return [text for name, text in self.texts().items() if name.startswith("journal ")]

    def put_journal(self, texts: Sequence[bytes]) -> None:
        self.replace(clusters.NAME, "journal", index.pack(b"".join(text + b"\n" for text in texts)))


def _unpacked(thing: Mapping[str, Any]) -> bytes:
    """What a Secret that was sent holds, as it can be read."""
    contents = [base64.b64decode(value) for value in (thing.get("data") or {}).values()]
    return b"\n".join(index.unpack(one, place="") if one.startswith(b"\x1f\x8b") else one for one in contents)


KINDS = ("file", "postgres", "http", "kubernetes")


@contextmanager
def kept_in(kind: str, home: Path, url: Callable[[], str]) -> Iterator[Kept]:
    """`url` is asked for a database where one is needed."""
    made: Kept
    if kind == "postgres":
        made = KeptInDatabase(home, url())
    elif kind == "kubernetes":
        made = KeptInCluster(home)
    else:
        made = KeptOnServer(home) if kind == "http" else Kept(home)
    try:
        yield made
    finally:
        made.close()
