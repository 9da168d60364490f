"""An encrypted state wherever it is kept: nothing to read, nothing to swap, and a way in, out and from key to key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.core.fold import fold_all
from reconciler.core.migration import contents
from reconciler.engine.context import BackendPool, Context
from reconciler.engine.migrate import migrate
from reconciler.engine.surgery import pull, push, rollback
from reconciler.errors import StateCorrupt, StoreError
from reconciler.model.desired import Desired, StoreConfig
from reconciler.model.state import State
from reconciler.stores import keys
from reconciler.stores.base import Store
from reconciler.stores.registry import open_store
from reconciler.stores.sealing import PLAIN, Sealer
from reconciler.testing.store_conformance import STACK, a_state, created
from tests.stores import clusters
from tests.stores.kept import KINDS, Kept, KeptInCluster, KeptInDatabase, KeptOnServer, kept_in
from tests.stores.places import a_key, a_sealer, a_store
from tests.support.postgres import Postgres

# With the quotes of JSON: no base64 can look like that.
SECRET_WORDS = (b"LOG_OF_ANN", b'aio:1"', b'"main"', b"a-lineage", b"127.0.0.1", b"sb-", b'"process"')
SEALER = a_sealer(a_key())


@pytest.fixture(params=KINDS)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    def url() -> str:
        server: Postgres = request.getfixturevalue("postgres")
        return server.url()

    with kept_in(request.param, tmp_path, url) as made:
        yield made


with_a_journal = pytest.mark.parametrize("kept", ["file", "postgres", "kubernetes"], indirect=True)
in_a_database = pytest.mark.parametrize("kept", ["postgres"], indirect=True)
on_a_server = pytest.mark.parametrize("kept", ["http"], indirect=True)


def used(kept: Kept, sealer: Sealer) -> Store:
    """A store in which everything is that it can have: snapshot, versions, journal, key, lock."""
    store = kept.store(sealer)
    with store.lock("apply") as lease:
        store.write(lease, store.write(lease, store.write(lease, a_state("LOG_OF_ANN"))))
        store.append(lease, created("b"))
        store.append(lease, created("c"))
    if kept.keeps_key:
        store.secret_key(create=True)
    return store


def read(store: Store) -> State:
    state = store.read()
    assert state is not None
    return state


def words(data: bytes) -> set[bytes]:
    return {word for word in SECRET_WORDS if word in data.replace(b'\\"', b'"')}


def encrypted(store: Store) -> list[str]:
    return [told for what, _, told in store.check() if what == "state is encrypted"]


def test_no_address_and_nothing_of_a_specification_is_kept_or_sent(kept: Kept) -> None:
    store = used(kept, SEALER)
    assert words(kept.everything()) == set(kept.in_clear)
    assert encrypted(store) == ["all of it"]
    assert all(well for what, well, _ in store.check() if what != "connection is private")
    if kept.keeps_key:
        key = store.secret_key(create=False)
        assert key is not None
        assert key.hex().encode() not in kept.everything()


def test_a_state_in_clear_is_read_and_the_next_write_encrypts_all_of_it(kept: Kept) -> None:
    before = read(used(kept, PLAIN))
    assert words(kept.everything()) == set(SECRET_WORDS)
    store = kept.store(SEALER)
    assert store.read() == before
    [told] = encrypted(store)
    assert told.startswith("not yet: ")
    with store.lock("apply") as lease:
        store.append(lease, created("d"))
        if kept.keeps_journal:
            assert words(b"".join(kept.journal())) == set()
        store.write(lease, fold_all(read(store), created("e")))
    assert words(b"\n".join(kept.texts().values())) <= set(kept.in_clear)
    assert encrypted(store) == ["all of it"]
    assert set(read(store).sandboxes) == {*before.sandboxes, "d", "e"}
    with pytest.raises(StoreError, match="the configuration names no key") as refused:
        kept.store().read()
    assert "RECONCILER_ENCRYPTION_KEY" in refused.value.hint


def test_it_goes_on_from_key_to_key_and_back_to_clear(kept: Kept) -> None:
    """Each configuration finds the journal of one that was killed under the configuration before."""
    steps = [PLAIN, a_sealer(a_key(1)), a_sealer(a_key(2), a_key(1)), a_sealer("", a_key(2)), PLAIN]
    expected: set[str] = {"LOG_OF_ANN", "b", "c"}
    key = used(kept, PLAIN).secret_key(create=False)
    for number, sealer in enumerate(steps):
        store = kept.store(sealer)
        assert set(read(store).sandboxes) == expected
        assert store.secret_key(create=False) == key
        with store.lock("apply") as lease:
            store.append(lease, created(f"at-{number}"))
            store.write(lease, read(store))
            store.append(lease, created(f"after-{number}"))
        expected |= {f"at-{number}", f"after-{number}"}
        after = kept.store(sealer)
        assert set(read(after).sandboxes) == expected
        versions = after.history()
        assert [after.version(v.serial).serial for v in versions] == [v.serial for v in versions]
        assert versions[0].sandboxes == len(expected) - (1 if kept.keeps_journal else 0)
        if kept.keeps_journal:
            assert all(sealer.fresh(text) for text in kept.journal())
        if sealer.seals:
            only = kept.store(a_sealer(a_key(number), enforced=True))
            assert set(read(only).sandboxes) == expected
            assert only.secret_key(create=False) == key
            assert [only.version(v.serial).serial for v in only.history()] == [v.serial for v in versions]
            assert words(b"\n".join(kept.texts().values())) <= set(kept.in_clear)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bit_of_anything_can_be_flipped(kept: Kept, data: st.DataObject) -> None:
    if not kept.stores:
        used(kept, SEALER)
    names = [name for name in kept.texts() if not name.endswith((".jsonl", ".backup"))]
    name = data.draw(st.sampled_from(names))
    whole = kept.texts()[name]
    place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 6))
    kept.put(name, whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
    store = kept.stores[0]
    try:
        with pytest.raises(StoreError):  # noqa: PT012 - whichever reads it
            store.read()
            store.secret_key(create=True)
            store.version(1)
            store.version(2)
    finally:
        kept.put(name, whole)


def test_the_wrong_key_is_never_an_empty_state_and_never_replaces_one(kept: Kept) -> None:
    used(kept, SEALER)
    before = kept.texts()
    store = kept.store(a_sealer(a_key(2)))
    looks: list[Callable[[], object]] = [store.read, store.history, lambda: store.version(3)]
    if kept.keeps_key:
        looks.append(lambda: store.secret_key(create=True))
    for look in looks:
        with pytest.raises(StoreError, match="is encrypted with another key than KEY_") as refused:
            look()
        assert not isinstance(refused.value, StateCorrupt)
    with store.lock("apply") as lease:
        writes: list[Callable[[], object]] = [
            lambda: store.write(lease, a_state(serial=9)),
            lambda: store.append(lease, created("z")),
        ]
        for write in writes:
            with pytest.raises(StoreError, match="another key"):
                write()
    assert kept.texts() == before
    assert "state is readable" in [what for what, well, _ in store.check() if not well]


@in_a_database
def test_the_snapshot_alone_says_which_key_is_right(kept: Kept) -> None:
    used(kept, SEALER)
    assert isinstance(kept, KeptInDatabase)
    kept.psql("delete from reconciler_journal")
    kept.psql("delete from reconciler_key")
    before = kept.texts()
    store = kept.store(a_sealer(a_key(2)))
    with store.lock("apply") as lease:
        for write in (
            lambda: store.append(lease, created("z")),
            lambda: store.write(lease, a_state(serial=9)),
        ):
            with pytest.raises(StoreError, match="another key"):
                write()
    assert kept.texts() == before


@with_a_journal
def test_no_line_of_a_journal_can_be_moved_left_out_doubled_or_brought_in(kept: Kept) -> None:
    store = used(kept, SEALER)
    others = kept.journal()
    with store.lock("apply") as lease:
        store.write(lease, read(store))
        store.append(lease, created("b"))
        store.append(lease, created("c"))
    lines = kept.journal()
    kept.put_journal(lines)
    assert set(read(store).sandboxes) == {"LOG_OF_ANN", "b", "c"}
    changed = {
        "moved": [*lines[:2], lines[3], lines[2], *lines[4:]],
        "left out": [*lines[:2], *lines[3:]],
        "doubled": [*lines[:3], *lines[2:]],
        "brought in": [*lines[:2], others[2], *lines[3:]],
        "of another journal from there on": [*lines[:3], *others[3:]],
        "without its first": lines[1:],
        "of another snapshot": others[:1] + lines[1:],
    }
    for how, made in changed.items():
        kept.put_journal(made)
        with pytest.raises(StateCorrupt, match="was changed since it was encrypted, or belongs") as refused:
            store.read()
        assert "move the journal away" in refused.value.hint or "delete the rows" in refused.value.hint, how
        with store.lock("apply") as lease, pytest.raises(StateCorrupt):
            kept.store(SEALER).append(lease, created("d"))


@in_a_database
def test_a_journal_opens_under_the_very_snapshot_that_it_was_written_on(kept: Kept) -> None:
    """Two snapshots of one serial: after an older dump was restored, serials come again."""
    store = used(kept, SEALER)
    state = store.version(3)
    before = kept.texts()[kept.snapshot]
    again = json.loads(before)
    kept.put(kept.snapshot, SEALER.seal("snapshot", SEALER.open("snapshot", before, place="")))
    assert json.loads(kept.texts()[kept.snapshot]) != again
    assert store.version(3) == state
    with pytest.raises(StateCorrupt, match=r"entry 1 of research .* belongs somewhere else"):
        store.read()


@with_a_journal
def test_a_journal_in_clear_cannot_be_slipped_under_an_encrypted_state(kept: Kept) -> None:
    used(kept, PLAIN)
    clear = kept.journal()
    store = kept.store(SEALER)
    with store.lock("apply") as lease:
        store.write(lease, read(store))
        store.append(lease, created("z"))
    sealed = kept.journal()
    at_once = [b.replace(b'"base":3', b'"base":4') for b in clear]
    kept.put_journal(at_once)
    with pytest.raises(StateCorrupt, match=r"is not encrypted, but .*which it continues, is") as refused:
        store.read()
    assert "nothing of ours writes that" in refused.value.hint
    kept.put_journal([*sealed, clear[-1]])
    with pytest.raises(StateCorrupt, match="is not encrypted, unlike "):
        store.read()


def test_with_enforced_nothing_in_clear_is_taken(kept: Kept) -> None:
    used(kept, PLAIN)
    store = kept.store(a_sealer(a_key(), enforced=True))
    looks: list[Callable[[], object]] = [store.read, store.history, lambda: store.version(3)]
    if kept.keeps_key:
        looks.append(lambda: store.secret_key(create=True))
    for look in looks:
        with pytest.raises(StoreError, match="is not encrypted") as refused:
            look()
        assert "without `enforced`" in refused.value.hint
    with store.lock("apply") as lease, pytest.raises(StoreError, match="is not encrypted"):
        store.write(lease, a_state(serial=9))


@with_a_journal
def test_a_version_under_anothers_serial_is_told_and_keeps_nobody_from_the_others(kept: Kept) -> None:
    store = used(kept, SEALER)
    kept.put(kept.version, kept.texts()[kept.later_version])
    with pytest.raises(StateCorrupt, match="holds serial 2") as refused:
        store.version(1)
    assert "state history" in refused.value.hint
    assert store.version(2).serial == 2
    damage = {version.serial: version.damage for version in store.history()}
    assert "holds serial 2" in damage.pop(1)
    assert damage == {2: "", 3: ""}


@pytest.mark.parametrize("kept", ["postgres", "http", "kubernetes"], indirect=True)
def test_what_stands_in_clear_beside_a_snapshot_is_compared_with_what_is_in_it(kept: Kept) -> None:
    store = used(kept, SEALER)
    if isinstance(kept, KeptInDatabase):
        kept.psql("update reconciler_state set serial = 7")
    elif isinstance(kept, KeptInCluster):
        there = kept.head().index
        assert there.snapshot is not None
        kept.replace(
            clusters.NAME, "index", replace(there, snapshot=replace(there.snapshot, serial=7)).encode()
        )
    else:
        kept.put("state", kept.texts()["state"].replace(b'"serial":', b'"serial":7'))
    with pytest.raises(StateCorrupt, match="holds serial "):
        store.read()
    assert not [version for version in store.history() if version.current]


def test_what_was_sealed_for_another_stack_does_not_open_here(kept: Kept) -> None:
    used(kept, SEALER)
    store = kept.store(a_sealer(a_key(), stack="other"))
    looks: list[Callable[[], object]] = [store.read, lambda: store.version(1)]
    if kept.keeps_key:
        looks.append(lambda: store.secret_key(create=True))
    for look in looks:
        with pytest.raises(StateCorrupt, match="belongs somewhere else"):
            look()


@in_a_database
def test_a_row_of_a_sealed_snapshot_does_not_tell_how_many_sandboxes_there_are(kept: Kept) -> None:
    store = used(kept, SEALER)
    assert isinstance(kept, KeptInDatabase)
    query = "select serial, sandboxes from reconciler_state union all select serial, sandboxes from reconciler_version"
    assert {row[1] for row in kept.psql(query)} == {-1}
    assert [version.sandboxes for version in store.history()] == [1, 1, 1]
    off = kept.store(a_sealer("", a_key()))
    with off.lock("apply") as lease:
        off.write(lease, read(off))
    assert sorted(kept.psql(query)) == [(1, 1), (2, 1), (3, 1), (4, 3)]


@on_a_server
def test_a_server_finds_a_serial_and_may_write_the_document_in_its_own_way(kept: Kept) -> None:
    store = used(kept, SEALER)
    assert isinstance(kept, KeptOnServer)
    assert [json.loads(body)["serial"] for _, body in kept.server.kept().writes] == [1, 2, 3, 4, 5]
    before = read(store)
    kept.put("state", json.dumps(json.loads(kept.texts()["state"]), sort_keys=True, indent=4).encode())
    assert store.read() == before
    with store.lock("apply") as lease:
        store.append(lease, created("d"))


# --- with what people do to a state


def a_context(store: Store) -> Context:
    desired = Desired(stack=STACK, sandboxes={}, backends={})
    return Context(desired=desired, store=store, backends=BackendPool({}, lambda _: None))  # type: ignore[arg-type, return-value]


def test_a_state_that_is_pulled_pushed_or_rolled_back_is_in_clear_only_in_between(kept: Kept) -> None:
    store = used(kept, SEALER)
    state, pulled = pull(store)
    assert json.loads(pulled)["serial"] == state.serial
    pushed = push(a_context(store), pulled.replace(b"LOG_OF_ANN", b"LOG_OF_BOB"), place="x.json")
    assert "LOG_OF_BOB" in read(store).sandboxes
    back = rollback(a_context(store), pushed.after.serial, confirm=lambda edit: True)
    assert not back.written
    if kept.keeps_history:
        rollback(a_context(store), 2, confirm=lambda edit: True)
        assert set(read(store).sandboxes) == {"LOG_OF_ANN"}
    assert words(kept.everything()) == set(kept.in_clear)


def test_what_is_fetched_sealed_past_the_store_can_be_pushed(kept: Kept) -> None:
    """On a server that is the way back: the protocol has no versions, and people fetch what the server keeps."""
    store = used(kept, SEALER)
    fetched = kept.server.kept().versions[1] if isinstance(kept, KeptOnServer) else kept.texts()[kept.version]
    assert words(fetched) <= set(kept.in_clear)
    push(a_context(store), fetched, place="fetched.json", force=True)
    assert set(read(store).sandboxes) == {"LOG_OF_ANN"}
    with pytest.raises(StoreError, match=r"fetched\.json is encrypted with another key"):
        kept.store(a_sealer(a_key(2))).unsealed(fetched, place="fetched.json")
    with pytest.raises(StoreError, match=r"fetched\.json is encrypted, and the configuration names no key"):
        kept.store().unsealed(fetched, place="fetched.json")


@pytest.mark.parametrize("kept", ["postgres", "http", "kubernetes"], indirect=True)
def test_a_state_moves_in_and_out_again(kept: Kept, tmp_path: Path) -> None:
    environ = {keys.KEY_VARIABLE: "the same for all of them"}
    first = a_store(tmp_path / "first", environ=environ)
    last = a_store(tmp_path / "last", environ=environ, sealer=a_sealer(a_key(2)))
    with first.lock("apply") as lease:
        first.write(lease, first.write(lease, a_state("LOG_OF_ANN")))
        first.append(lease, created("b"))
    state = read(first)
    migrate(a_context(kept.store(SEALER, environ)), first)
    assert words(kept.everything()) <= set(kept.in_clear)
    migrate(a_context(last), kept.store(SEALER, environ))
    assert contents(read(last)) == contents(state)
    assert words(kept.everything()) <= {*kept.in_clear}


def test_it_is_encrypted_as_it_is_configured(kept: Kept, tmp_path: Path) -> None:
    options = {**kept.options(), "encryption": {"key": {"env": "K"}, "enforced": True}}
    config = StoreConfig(type=options.pop("store"), options=options)
    store = open_store(config, stack=STACK, directory=tmp_path, environ={"K": a_key()})
    with store.lock("apply") as lease:
        store.write(lease, a_state("LOG_OF_ANN"))
    store.close()
    assert words(kept.everything()) == set(kept.in_clear)
    assert set(read(kept.store(SEALER)).sandboxes) == {"LOG_OF_ANN"}
    keyless = open_store(config, stack=STACK, directory=tmp_path, environ={})
    with pytest.raises(StoreError, match="is encrypted: the encryption key K is not set"):
        keyless.read()
    keyless.close()
