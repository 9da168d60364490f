"""The postgres store on a real server: what its rows may be, and what it says when a server says no."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from reconciler.backends.memory import MemoryBackend
from reconciler.core.fold import fold_all
from reconciler.engine.context import BackendPool, Context
from reconciler.engine.migrate import migrate
from reconciler.errors import ConfigError, StateCorrupt, StateTooNew, StoreError
from reconciler.model.desired import Desired, Secret
from reconciler.stores import keys, snapshot
from reconciler.stores.file import FileStore
from reconciler.stores.postgres import PostgresStore
from reconciler.stores.postgres.address import parse
from reconciler.testing.store_conformance import STACK, a_state, created
from tests.stores.databases import a_store, schema_of
from tests.support.postgres import Postgres, requires_postgres

pytestmark = requires_postgres


class Place:
    """One test's stores, and its schema as a person sees it through psql."""

    def __init__(self, server: Postgres, home: Path) -> None:
        self.server = server
        self.home = home
        self.schema = schema_of(home)
        self.stores: list[PostgresStore] = []

    def open(self, url: str = "", **options: object) -> PostgresStore:
        store = a_store(url or self.server.url(), self.home, **options)  # type: ignore[arg-type]
        self.stores.append(store)
        return store

    def psql(self, statement: str) -> list[tuple[object, ...]]:
        """In the test's schema; committed at once."""
        with psycopg.connect(
            self.server.url(), autocommit=True, options=f"-c search_path={self.schema}"
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []


@pytest.fixture
def place(postgres: Postgres, tmp_path: Path) -> Iterator[Place]:
    made = Place(postgres, tmp_path)
    yield made
    for store in made.stores:
        store.close()


@pytest.fixture
def written(place: Place) -> PostgresStore:
    """A store with a snapshot of serial 1 and three entries after it."""
    store = place.open()
    with store.lock("apply") as lease:
        store.write(lease, a_state("a"))
        store.append(lease, created("b"))
    return store


def test_all_that_a_directory_holds_moves_into_the_database(place: Place, tmp_path: Path) -> None:
    """Its key too: without it no secret could be told from a changed one."""
    old, new = FileStore(STACK, path=tmp_path / "state", environ={}), place.open()
    with old.lock("apply") as lease:
        state = a_state("a")
        for _ in range(3):
            state = old.write(lease, state)
        old.append(lease, created("b"))
    key = old.secret_key(create=True)
    desired = Desired(stack=STACK, sandboxes={}, backends={})
    done = migrate(
        Context(desired=desired, store=new, backends=BackendPool({}, lambda _: MemoryBackend())), old
    )
    assert (done.moved, done.written, done.versions + done.behind) == (True, True, 3)
    assert new.secret_key(create=False) == key
    arrived = new.read()
    assert arrived is not None
    assert set(arrived.sandboxes) == {"a", "b"}
    assert done.versions == 3
    assert all(new.version(serial) == old.version(serial) for serial in (1, 2, 3))


# --- rows


def test_reading_makes_no_tables(place: Place) -> None:
    store = place.open()
    assert store.read() is None
    assert store.lock_info() is None
    assert list(store.history()) == []
    assert store.secret_key(create=False) is None
    assert place.psql("select from pg_namespace where nspname = current_setting('search_path')") == []


def test_the_snapshot_is_the_text_that_the_file_store_would_write(
    place: Place, written: PostgresStore
) -> None:
    state = written.version(1)
    rows = place.psql("select serial, lineage, sandboxes, snapshot from reconciler_state")
    assert rows == [(1, "a-lineage", 1, snapshot.encode(state).decode())]


def test_many_that_come_first_at_once_find_the_same_tables(place: Place) -> None:
    failed: list[BaseException] = []
    start = threading.Barrier(8)

    def first(store: PostgresStore) -> None:
        try:
            start.wait(20)
            with store.lock("apply", timeout=60.0):
                pass
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=first, args=(place.open(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert place.psql("select version from reconciler_layout") == [(1,)]
    assert place.psql("select fence from reconciler_lock") == [(8,)]


def test_stacks_share_the_tables_and_nothing_else(place: Place, written: PostgresStore) -> None:
    other = PostgresStore("elsewhere", url=place.server.url(), schema=place.schema, environ={})
    place.stores.append(other)
    assert other.read() is None
    with other.lock("apply") as lease, written.lock("apply"):
        assert lease.info.fence == 1
        assert other.secret_key(create=True) != written.secret_key(create=True)


def test_a_table_prefix_keeps_apart_what_shares_a_schema(place: Place, written: PostgresStore) -> None:
    other = PostgresStore(STACK, url=place.server.url(), schema=place.schema, table="next", environ={})
    place.stores.append(other)
    assert other.read() is None
    with other.lock("apply") as lease:
        other.write(lease, a_state())
    assert place.psql("select serial from next_state") == [(1,)]


def test_a_layout_of_a_newer_version_is_refused_by_whatever_one_asks(
    place: Place, written: PostgresStore
) -> None:
    place.psql("insert into reconciler_layout values (2)")
    store = place.open()
    for ask in (store.read, store.history, store.lock_info, lambda: store.lock("apply")):
        with pytest.raises(StateTooNew, match="layout 2, this version knows up to 1") as refused:
            ask()
        assert "update reconciler" in refused.value.hint


DAMAGE = {
    "half of the snapshot is gone": (
        "update reconciler_state set snapshot = left(snapshot, length(snapshot) / 2)",
        "is no state",
    ),
    "the row is of another serial than its text": (
        "update reconciler_state set serial = 7",
        "its row says serial 7",
    ),
    "the text is another stack's": (
        "update reconciler_state set snapshot = replace(snapshot, '\"research\"', '\"elsewhere\"')",
        "of stack 'elsewhere'",
    ),
    "the snapshot was deleted under its journal": (
        "delete from reconciler_state",
        "reconciler_journal has rows of this stack",
    ),
    "an entry was deleted": ("delete from reconciler_journal where number = 2", "entry 2 of research"),
    "an entry is no entry": (
        "update reconciler_journal set entry = '{}' where number = 3",
        "entry 3 of research .* is no journal entry",
    ),
    "the journal is another lineage's": (
        "update reconciler_journal set lineage = 'x'",
        "belongs to lineage x",
    ),
    "an older snapshot was restored": (
        "update reconciler_journal set base = 5",
        "continues serial 5, but the snapshot is of serial 1",
    ),
}


@pytest.mark.parametrize(("statement", "says"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_told_with_a_way_out_and_never_taken_for_a_state(
    place: Place, written: PostgresStore, statement: str, says: str
) -> None:
    place.psql(statement)
    store = place.open()
    with pytest.raises(StateCorrupt, match=says) as refused:
        store.read()
    assert refused.value.hint
    assert [what for what, well, _ in store.check() if not well] == ["state is readable"]


def test_a_snapshot_that_was_lost_is_never_begun_anew(place: Place, written: PostgresStore) -> None:
    place.psql("delete from reconciler_state")
    store = place.open()
    with store.lock("apply") as lease, pytest.raises(StateCorrupt, match="missing"):
        store.write(lease, a_state())


def test_entries_that_build_on_an_older_snapshot_are_in_the_newer_one_already(
    place: Place, written: PostgresStore
) -> None:
    place.psql("update reconciler_journal set base = 0")
    assert place.open().read() == written.version(1)


def test_a_version_that_was_damaged_keeps_nobody_from_the_others(
    place: Place, written: PostgresStore
) -> None:
    with written.lock("apply") as lease:
        state = written.write(lease, written.version(1))
        written.write(lease, state)
    place.psql("update reconciler_version set snapshot = 'x' where serial = 1")
    with pytest.raises(StateCorrupt, match="version 1 of research") as refused:
        written.version(1)
    assert "state history" in refused.value.hint
    assert written.version(2) == state


def test_the_key_is_given_by_the_environment_before_any_table(place: Place) -> None:
    store = place.open(environ={keys.KEY_VARIABLE: "k"})
    assert store.secret_key(create=True) == keys.given({keys.KEY_VARIABLE: "k"}, instead="")
    assert place.psql("select from pg_namespace where nspname = current_setting('search_path')") == []
    with pytest.raises(StoreError, match="is set, but empty"):
        place.open(environ={keys.KEY_VARIABLE: ""}).secret_key(create=True)


def test_a_key_that_is_none_is_told_and_not_shown(place: Place, written: PostgresStore) -> None:
    written.secret_key(create=True)
    place.psql("update reconciler_key set key = 'hunter2'")
    with pytest.raises(StateCorrupt, match="reconciler_key is no key") as refused:
        place.open().secret_key(create=True)
    assert "hunter2" not in refused.value.message + refused.value.hint


# --- a server that says no


@pytest.fixture
def people(postgres: Postgres) -> Iterator[Postgres]:
    """With a role that may connect, and no more."""
    postgres.run("create role bob login password 'hunter2'")
    yield postgres
    postgres.run("drop owned by bob")
    postgres.run("drop role bob")


def _bob(server: Postgres, **more: object) -> str:
    return server.url(user="bob", password="hunter2", socket=False, **more)  # type: ignore[arg-type]


def _latin(server: Postgres) -> Postgres:
    """With a database that is not of UTF-8. It stays: dropping one takes seconds."""
    if not server.run("select from pg_database where datname = 'latin'"):
        server.run("create database latin encoding 'LATIN1' template template0")
    return server


NO = {
    "the password is wrong": (
        lambda s: s.url(user="bob", password="hunter22", socket=False),
        "password authentication failed",
        "check user and password",
    ),
    "there is no password": (
        lambda s: s.url(user="bob", socket=False),
        "no password supplied",
        "check user and password",
    ),
    "there is no such user": (
        lambda s: s.url(user="hunter2er"),
        "does not exist",
        "check user and password",
    ),
    "there is no such database": (
        lambda s: _bob(s, database="nix"),
        'database "nix" does not exist',
        "create the database",
    ),
    "the server has no TLS": (
        lambda s: _bob(s) + "?sslmode=require",
        "server does not support SSL",
        "check `sslmode`",
    ),
    "nobody listens": (
        lambda s: "postgresql://bob:hunter2@127.0.0.1:1/x",
        "Connection refused",
        "is the server running",
    ),
    "there is no such socket": (
        lambda s: "postgresql://bob:hunter2@/x?host=/nowhere",
        "No such file or directory",
        "is the server running",
    ),
    "there is no such host": (
        lambda s: "postgresql://bob:hunter2@no-such-host.invalid/x",
        "no-such-host.invalid",
        "check the host",
    ),
    "the user may create nothing": (_bob, "permission denied", "grant it"),
    "the server is a replica, or read-only": (
        lambda s: s.url() + "&options=-c%20default_transaction_read_only%3Don",
        "it is read-only",
        "the primary",
    ),
    "the database cannot hold every character": (
        lambda s: _latin(s).url(database="latin"),
        "the database has the encoding LATIN1",
        "encoding 'UTF8'",
    ),
}


@pytest.mark.parametrize(("url", "says", "hint"), NO.values(), ids=NO)
def test_what_a_server_refuses_is_told_with_the_next_step_and_without_the_password(
    people: Postgres, place: Place, url: Callable[[Postgres], str], says: str, hint: str
) -> None:
    store = place.open(url(people), timeout=5.0)
    with pytest.raises(StoreError) as refused:
        store.lock("apply")
    assert says in refused.value.message
    assert hint in refused.value.hint
    told = " ".join([refused.value.message, refused.value.hint, store.describe(), repr(store.check())])
    assert ":hunter2" not in told
    assert "\n" not in refused.value.message
    assert any(not well for _, well, _ in store.check())


def test_who_may_read_only_plans_and_cannot_take_the_lock(
    people: Postgres, place: Place, written: PostgresStore
) -> None:
    place.psql(f"grant usage on schema {place.schema} to bob")
    place.psql(f"grant select on all tables in schema {place.schema} to bob")
    reader = place.open(_bob(people))
    assert reader.read() == written.read()
    with pytest.raises(StoreError, match="permission denied for table reconciler_lock") as refused:
        reader.lock("apply")
    assert "UPDATE" in refused.value.hint


def test_the_rights_that_are_named_are_enough(people: Postgres, place: Place, written: PostgresStore) -> None:
    place.psql(f"grant usage on schema {place.schema} to bob")
    place.psql(f"grant select, insert, update, delete on all tables in schema {place.schema} to bob")
    worker = place.open(_bob(people))
    with worker.lock("apply") as lease:
        state = worker.read()
        assert state is not None
        worker.append(lease, created("c"))
        worker.write(lease, state)
    assert worker.secret_key(create=True) == written.secret_key(create=False)
    assert [well for what, well, _ in worker.check() if what != "connection is private"] == [True] * 7


# --- where it is


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:hunter2@db.example:5433/states", "postgresql://ann:***@db.example:5433/states"),
        ("postgres://ann@db.example/states?sslmode=require", "postgresql://ann@db.example/states"),
        ("postgresql://ann:p%40ss%2Fhunter2@[::1]/states", "postgresql://ann:***@[::1]/states"),
        ("postgresql://a:1,b:2/states?user=ann&password=hunter2", "postgresql://ann:***@a:1,b:2/states"),
        ("postgresql://ann:12?hunter2@db/states", "postgresql://ann:***@db/states"),
        ("postgresql:///states?host=/run/pg", "postgresql:///states?host=/run/pg"),
        ("host=db dbname=states user=ann password=hunter2", "postgresql://ann:***@db/states"),
    ],
)
def test_where_it_is_is_shown_without_the_password(url: str, shown: str) -> None:
    store = PostgresStore(STACK, url=Secret(url), environ={})
    assert store.describe() == f"research in {shown}"
    assert "hunter2" not in repr(parse(url))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "  ",
        "hunter2",
        "mysql://ann:hunter2@db/states",
        "postgresql+psycopg://ann:hunter2@db/states?sslmode=require",
        "postgresql://ann:p@hunter2@db/states",
        "postgresql://ann:p/hunter2@db/states",
        "postgresql://ann:12/hunter2@db/states",
        "postgresql://ann:%hunter2@db/states",
        "postgresql://ann:hunter2@db/states?sslmod=require",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_and_nothing_of_it_is_quoted(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        PostgresStore(STACK, url=url, environ={})
    assert "hunter2" not in f"{refused.value!r} {refused.value.message} {refused.value.hint}"
    assert "postgresql://USER:PASSWORD@HOST" in refused.value.hint
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "name", ["", "x" * 64, "a\0b", "50%"], ids=["empty", "too long", "with a NUL", "with a %"]
)
def test_names_that_no_table_can_have_are_refused(name: str) -> None:
    for options in ({"schema": name}, {"table": name}):
        with pytest.raises(ConfigError, match="cannot be the"):
            PostgresStore(STACK, url="postgresql:///x", environ={}, **options)


def test_odd_names_are_names_all_the_same(place: Place) -> None:
    store = PostgresStore(
        'a "b"; drop',
        url=place.server.url(),
        schema=f'{place.schema} "x"',
        table="Größe.s {key}",
        environ={},
    )
    place.stores.append(store)
    assert store.secret_key(create=True) == store.secret_key(create=False)


def test_what_is_folded_is_what_was_appended(written: PostgresStore) -> None:
    assert written.read() == fold_all(written.version(1), created("b"))
