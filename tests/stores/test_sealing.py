"""Sealed messages: they open as what they were made for, with the key they were made with, and not otherwise."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.errors import ConfigError, StateCorrupt, StateTooNew, StoreError
from reconciler.model.desired import StoreConfig
from reconciler.stores.registry import open_store
from reconciler.stores.sealing import KEY, PLAIN, SNAPSHOT, KeySealer, KeySource, is_sealed
from reconciler.testing.store_conformance import STACK, a_state
from tests.stores.places import a_key, a_sealer

SEALER = a_sealer(a_key(), enforced=True)
PASSPHRASE = "correct horse battery staple"


def opened(data: bytes, sealer: KeySealer = SEALER, kind: str = SNAPSHOT) -> bytes:
    return sealer.open(kind, data, place="state/x.json")


@given(st.binary(max_size=2000), st.text(max_size=20))
def test_what_was_sealed_opens_as_it_was_and_never_looks_the_same_twice(data: bytes, kind: str) -> None:
    sealed = SEALER.seal(kind, data)
    assert opened(sealed, kind=kind) == data
    assert is_sealed(sealed)
    assert json.loads(sealed)["sealed"] == "1"
    assert b"\n" not in sealed
    assert SEALER.seal(kind, data) != sealed


@settings(deadline=None)
@given(st.data())
def test_no_bit_can_be_flipped(data: st.DataObject) -> None:
    sealed = bytearray(SEALER.seal(SNAPSHOT, b"a state"))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(StoreError):
        opened(bytes(sealed))


@given(st.integers(0, len(SEALER.seal(SNAPSHOT, b"a state")) - 1))
def test_nothing_can_be_cut_off(size: int) -> None:
    with pytest.raises(StoreError):
        opened(SEALER.seal(SNAPSHOT, b"a state")[:size])


@pytest.mark.parametrize(
    ("kind", "stack"), [(KEY, STACK), (SNAPSHOT, "other")], ids=["as another kind", "in another stack"]
)
def test_it_opens_nowhere_else(kind: str, stack: str) -> None:
    sealed = SEALER.seal(SNAPSHOT, b"a state")
    with pytest.raises(
        StateCorrupt, match=r"state/x\.json was changed since it was encrypted, or belongs somewhere"
    ):
        opened(sealed, a_sealer(a_key(), stack=stack), kind)


@pytest.mark.parametrize("part", ["salt", "nonce", "data"])
def test_parts_of_two_messages_do_not_go_together(part: str) -> None:
    first, second = (json.loads(SEALER.seal(SNAPSHOT, text)) for text in (b"one", b"two"))
    mixed = {**first, part: base64.b64encode(bytes(16)).decode() if part == "salt" else second[part]}
    with pytest.raises(StoreError):
        opened(json.dumps(mixed, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    ("sealed_with", "opened_with"),
    [(a_key(1), a_key(2)), (a_key(1), PASSPHRASE), (PASSPHRASE, a_key(1)), (PASSPHRASE, PASSPHRASE + "!")],
    ids=["two keys", "a key, then a passphrase", "a passphrase, then a key", "two passphrases"],
)
def test_a_wrong_key_is_told_as_that(sealed_with: str, opened_with: str) -> None:
    sealed = a_sealer(sealed_with).seal(SNAPSHOT, b"a state")
    with pytest.raises(StoreError, match=r"state/x\.json is encrypted with another key than KEY_") as refused:
        opened(sealed, a_sealer(opened_with))
    assert not isinstance(refused.value, StateCorrupt)
    assert "fallback_keys" in refused.value.hint
    assert opened_with not in refused.value.message + refused.value.hint


def test_any_key_opens_and_the_first_seals() -> None:
    old, new = a_sealer(a_key(1)), a_sealer(a_key(2), a_key(1), PASSPHRASE)
    for sealer in (old, a_sealer(PASSPHRASE)):
        sealed = sealer.seal(SNAPSHOT, b"a state")
        assert opened(sealed, new) == b"a state"
        assert not new.fresh(sealed)
    again = new.seal(SNAPSHOT, b"a state")
    assert new.fresh(again)
    assert opened(again, a_sealer(a_key(2))) == b"a state"


def test_a_missing_old_key_matters_only_where_it_is_needed() -> None:
    def missing() -> str:
        raise StoreError(
            "the encryption key OLD is not set", hint="set the environment variable OLD for this run"
        )

    current = KeySource(name="NEW", read=lambda: a_key(2))
    sealer = KeySealer(STACK, key=current, others=[KeySource(name="OLD", read=missing)])
    assert opened(sealer.seal(SNAPSHOT, b"new"), sealer) == b"new"
    with pytest.raises(StoreError, match=r"state/x\.json is encrypted: the encryption key OLD is not set"):
        opened(a_sealer(a_key(1)).seal(SNAPSHOT, b"old"), sealer)


@pytest.mark.parametrize(
    "spell",
    [
        lambda raw: raw.hex(),
        lambda raw: raw.hex().upper(),
        lambda raw: base64.b64encode(raw).decode(),
        lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="),
        lambda raw: raw.hex() + "\r\n",
    ],
    ids=["hex", "upper case hex", "base64", "base64 for URLs, unpadded", "with a newline behind it"],
)
def test_thirty_two_bytes_are_the_same_key_however_they_are_spelt(spell: Callable[[bytes], str]) -> None:
    raw = bytes(range(200, 232))
    sealed = a_sealer(raw.hex()).seal(SNAPSHOT, b"a state")
    assert opened(sealed, a_sealer(spell(raw))) == b"a state"
    assert json.loads(sealed)["salt"] == ""


def test_a_passphrase_is_stretched_with_a_salt_that_is_drawn_once_per_state() -> None:
    first = a_sealer(PASSPHRASE)
    one = first.seal(SNAPSHOT, b"a state")
    later = a_sealer(PASSPHRASE)
    assert opened(one, later) == b"a state"
    salts = [json.loads(data)["salt"] for data in (one, first.seal(KEY, b"k"), later.seal(KEY, b"k"))]
    assert len(set(salts)) == 1
    assert json.loads(a_sealer(PASSPHRASE).seal(SNAPSHOT, b"a state"))["salt"] not in salts


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(StoreError, match="KEY_shor is shorter than 16 characters") as refused:
        a_sealer("short-and-weak!").seal(SNAPSHOT, b"")
    assert "openssl rand" in refused.value.hint


def test_without_a_key_what_is_sealed_is_refused_and_what_is_clear_is_read() -> None:
    sealed = SEALER.seal(SNAPSHOT, b"a state")
    with pytest.raises(
        StoreError, match=r"state/x\.json is encrypted, and the configuration names no key"
    ) as refused:
        PLAIN.open(SNAPSHOT, sealed, place="state/x.json")
    assert "RECONCILER_ENCRYPTION_KEY" in refused.value.hint
    assert not isinstance(refused.value, StateCorrupt)
    assert PLAIN.open(SNAPSHOT, b"{}", place="x") == b"{}"
    assert a_sealer(a_key()).open(SNAPSHOT, b"{}", place="x") == b"{}"
    with pytest.raises(StoreError, match="x is not encrypted"):
        SEALER.open(SNAPSHOT, b"{}", place="x")


def test_a_newer_format_is_left_to_the_newer_version() -> None:
    sealed = SEALER.seal(SNAPSHOT, b"a state").replace(b'"sealed":"1"', b'"sealed":"2"')
    with pytest.raises(StateTooNew, match="format 2"):
        opened(sealed)


# --- as the configuration says it


def store(tmp_path: Path, environ: dict[str, str], **encryption: object) -> object:
    config = StoreConfig(type="file", options={"encryption": encryption})
    return open_store(config, stack=STACK, directory=tmp_path, environ=environ)


KEY_REFERENCE = {"env": "RECONCILER_ENCRYPTION_KEY"}


def test_a_store_encrypts_as_it_is_configured(tmp_path: Path) -> None:
    made = store(tmp_path, {"RECONCILER_ENCRYPTION_KEY": a_key()}, key=KEY_REFERENCE)
    with made.lock("apply") as lease:  # type: ignore[attr-defined]
        made.write(lease, a_state("a"))  # type: ignore[attr-defined]
    assert is_sealed((tmp_path / f"state/{STACK}.json").read_bytes())
    (tmp_path / "old.key").write_text(a_key() + "\n")
    rotated = store(
        tmp_path, {"NEW": a_key(2)}, key={"env": "NEW"}, fallback_keys=[{"file": "old.key"}, {"env": "NONE"}]
    )
    assert rotated.read() is not None  # type: ignore[attr-defined]


def test_a_variable_that_is_not_set_is_named_where_it_is_needed_and_nowhere_else(tmp_path: Path) -> None:
    made = store(tmp_path, {}, key=KEY_REFERENCE)
    assert made.read() is None  # type: ignore[attr-defined]
    assert made.lock_info() is None  # type: ignore[attr-defined]
    with (
        made.lock("apply") as lease,  # type: ignore[attr-defined]
        pytest.raises(StoreError, match="the encryption key RECONCILER_ENCRYPTION_KEY is not set"),
    ):
        made.write(lease, a_state("a"))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ({"env": "EMPTY"}, "EMPTY is empty"),
        ({"file": "nowhere"}, "nowhere: No such file"),
        (
            {"command": ["sh", "-c", "echo CANARY; echo CANARY >&2; exit 3"]},
            "the command sh ended with exit code 3",
        ),
        ({"command": ["/nowhere/at-all"]}, "the command /nowhere/at-all did not work"),
    ],
    ids=["an empty variable", "a missing file", "a command that fails", "a command that is not there"],
)
def test_a_key_that_cannot_be_had_is_told_without_a_word_of_it(
    tmp_path: Path, reference: dict[str, object], says: str
) -> None:
    made = store(tmp_path, {"EMPTY": ""}, key=reference)
    with made.lock("apply") as lease, pytest.raises(StoreError) as refused:  # type: ignore[attr-defined]
        made.write(lease, a_state("a"))  # type: ignore[attr-defined]
    assert says in refused.value.message
    assert "CANARY" not in refused.value.message + refused.value.hint


@pytest.mark.parametrize("wrong", [{}, {"env": "A", "file": "b"}, "text", {"env": ""}], ids=str)
def test_what_is_no_reference_is_refused(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(ConfigError, match="is no reference"):
        store(tmp_path, {}, key=wrong)


def test_a_store_that_cannot_encrypt_says_so(tmp_path: Path) -> None:
    config = StoreConfig(type="memory", options={"encryption": {"key": KEY_REFERENCE}})
    with pytest.raises(ConfigError, match="store 'memory' cannot encrypt"):
        open_store(config, stack=STACK, directory=tmp_path)


def test_the_library_is_imported_only_where_something_is_sealed(tmp_path: Path) -> None:
    text = f"""
import sys
from pathlib import Path
from reconciler.model.desired import StoreConfig
from reconciler.stores.registry import open_store
options = {{"path": {str(tmp_path)!r}, "encryption": {{"key": {{"env": "KEY"}}}}}}
store = open_store(StoreConfig(options=options), stack="s", directory=Path("."), environ={{}})
assert store.read() is None
assert not [name for name in sys.modules if name.startswith("cryptography")]
sys.modules["cryptography"] = None
from tests.stores.places import a_key, a_sealer
try:
    a_sealer(a_key()).seal("snapshot", b"")
except Exception as error:
    print(type(error).__name__, error.message, error.hint)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.stdout.startswith("StoreError "), done.stderr
    assert "pip install 'sandbox-reconciler[encryption]'" in done.stdout
