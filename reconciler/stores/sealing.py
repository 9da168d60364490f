"""Sealing: what a store keeps, encrypted on its way out and opened on its way in.

A sealed message is one line of JSON, so that it can stand wherever a plain document can: `{"sealed":"1","key":…,
"salt":…,"nonce":…,"data":…}`. `data` is AES-256-GCM under a nonce drawn for this message alone; version, stack, kind,
key and salt are bound to it as associated data, so that a message opens only as what it was made for. `key` tells keys
apart without telling anything of them, which is how a wrong key is known from damage. Why so, and what it does not
protect: docs/adr/0008-encryption.md.

Must never take what does not open for something empty, put a key into a message, or import `cryptography` where
nothing is sealed.
"""

from __future__ import annotations

import binascii
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct, field

from reconciler.errors import StateCorrupt, StateTooNew, StoreError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SNAPSHOT = "snapshot"  # the current one, the backup and every version: the same bytes, so one may be copied over another
KEY = "key"  # of the secrets' digests

_VERSION = "1"
_PARTS = ("sealed", "key", "salt", "nonce", "data")
OPENING = b'{"sealed":'  # of every sealed message, and of nothing that is kept in clear
_PURPOSE = b"sandbox-reconciler state encryption 1"
_SHORTEST_PASSPHRASE = 16  # characters
_SALT, _NONCE, _ID = 16, 12, 8  # bytes
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**17, 8, 1  # 128 MiB and some tenths of a second, as OWASP has it
_RESTORE = "restore it from where it was kept; what is live is found again by its labels"


class Sealer:
    """What a store calls on its canonical bytes. This one seals nothing, and refuses what is sealed."""

    seals = False  # whether `seal` encrypts
    enforced = False  # whether `open` refuses what is in clear

    def seal(self, kind: str, data: bytes) -> bytes:
        """The bytes to keep. `kind` says what they are; they open as that alone. Keep them as they are, to the byte."""
        return data

    def open(self, kind: str, data: bytes, *, place: str, hint: str = _RESTORE) -> bytes:
        """What `seal` was given. `place` is where the bytes are from and `hint` what to do when they are damaged, both
        for messages. Raises StoreError where no key fits, and StateCorrupt for what was changed or belongs elsewhere."""
        if is_sealed(data):
            raise _keyless(place)
        return data

    def fresh(self, data: bytes) -> bool:
        """Whether these kept bytes are as `seal` would make them now: with the key in use, or without any."""
        return not is_sealed(data)

    def unsealed(self, data: bytes, *, place: str) -> bytes:
        """A snapshot that somebody brings, in clear: opened if it is sealed, and taken as it is if not."""
        return self.open(SNAPSHOT, data, place=place) if is_sealed(data) else data


PLAIN = Sealer()


class KeySource(Struct, frozen=True, kw_only=True):
    """Where a key comes from: `name` for messages, and how it is read, when it is needed. `read` raises StoreError."""

    name: str
    read: Callable[[], str]


def is_sealed(data: bytes) -> bool:
    """Whether the bytes claim to be sealed."""
    return data.startswith(OPENING)


def as_sealed(parts: Mapping[str, object]) -> bytes:
    """A message, to the byte as `seal` made it, from its JSON: what keeps JSON may space and order it in its own way.
    Parts that no message has stay, so that it does not open."""
    import json

    ordered = {name: parts[name] for name in _PARTS if name in parts}
    return json.dumps({**ordered, **parts}, separators=(",", ":")).encode()


class KeySealer(Sealer):
    """Seals with `key`, opens with that or any of `others`; without `key` it only opens, which is how encryption is
    switched off. `enforced` refuses what is not sealed. Keys are read when they are needed, and once."""

    def __init__(
        self, stack: str, *, key: KeySource | None, others: Sequence[KeySource] = (), enforced: bool = False
    ) -> None:
        self.seals = key is not None
        self._stack = stack
        self.enforced = enforced
        self._first = None if key is None else _Key(source=key)
        self._keys = [
            *([] if self._first is None else [self._first]),
            *(_Key(source=other) for other in others),
        ]
        self._salt = b""  # of what was opened last: deriving a key from a passphrase is slow on purpose

    def seal(self, kind: str, data: bytes) -> bytes:
        if self._first is None:
            return data
        if self._first.stretched and not self._salt:
            self._salt = os.urandom(_SALT)
        salt = self._salt if self._first.stretched else b""
        known, cipher = self._first.derived(salt)
        nonce = os.urandom(_NONCE)
        return _Envelope(
            key=known,
            salt=salt,
            nonce=nonce,
            data=cipher.encrypt(nonce, data, self._bound(kind, known, salt)),
        ).encode()

    def open(self, kind: str, data: bytes, *, place: str, hint: str = _RESTORE) -> bytes:
        if not is_sealed(data):
            if self.enforced:
                raise StoreError(
                    f"{place} is not encrypted, and `state: {{encryption: {{enforced: true}}}}` takes nothing else",
                    hint="if it is known to be right, apply once without `enforced`, which encrypts it",
                )
            return data
        envelope = _decoded(data, place, hint)
        key = self._fitting(envelope, place)
        from cryptography.exceptions import InvalidTag

        known, cipher = key.derived(envelope.salt)
        try:
            opened: bytes = cipher.decrypt(
                envelope.nonce, envelope.data, self._bound(kind, known, envelope.salt)
            )
        except InvalidTag:
            raise StateCorrupt(
                f"{place} was changed since it was encrypted, or belongs somewhere else", hint=hint
            ) from None
        if key is self._first:
            self._salt = envelope.salt
        return opened

    def fresh(self, data: bytes) -> bool:
        if self._first is None or not is_sealed(data):
            return self._first is None and not is_sealed(data)
        envelope = _decoded(data, "the state", _RESTORE)
        return self._first.fits(envelope)

    def _bound(self, kind: str, key: str, salt: bytes) -> bytes:
        import json

        return json.dumps([_PURPOSE.decode(), _VERSION, self._stack, kind, key, salt.hex()]).encode()

    def _fitting(self, envelope: _Envelope, place: str) -> _Key:
        missing: list[StoreError] = []
        for key in self._keys:
            try:
                if key.fits(envelope):
                    return key
            except StoreError as error:  # another key may do
                missing.append(error)
        names = ", ".join(key.source.name for key in self._keys)
        if missing:
            raise StoreError(f"{place} is encrypted: {missing[0].message}", hint=missing[0].hint)
        raise StoreError(
            f"{place} is encrypted with another key than {names}",
            hint="give it the key that it was encrypted with; after a change of keys, name the one before under "
            "`state: {encryption: {fallback_keys: […]}}`",
        )


class _Key(Struct, kw_only=True):
    """One key: 32 random bytes in hex or base64, or else a passphrase, which is stretched with a salt."""

    source: KeySource
    _text: str | None = None
    _known: dict[bytes, tuple[str, AESGCM]] = field(default_factory=dict)

    @property
    def stretched(self) -> bool:
        return _random_bytes(self._read()) is None

    def fits(self, envelope: _Envelope) -> bool:
        return self.stretched == bool(envelope.salt) and self.derived(envelope.salt)[0] == envelope.key

    def derived(self, salt: bytes) -> tuple[str, AESGCM]:
        """What tells the key from others, in hex, and the cipher."""
        if salt not in self._known:
            material = _stretched(self._read(), salt, self.source.name)
            self._known[salt] = (material[32:].hex(), _cipher(material[:32]))
        return self._known[salt]

    def _read(self) -> str:
        if self._text is None:
            text = self.source.read().removesuffix("\n").removesuffix("\r")
            if _random_bytes(text) is None and len(text) < _SHORTEST_PASSPHRASE:
                raise StoreError(
                    f"the encryption key {self.source.name} is shorter than {_SHORTEST_PASSPHRASE} characters",
                    hint="give it 32 random bytes, as `openssl rand -hex 32` prints them, or a long passphrase",
                )
            self._text = text
        return self._text


class _Envelope(Struct, frozen=True, kw_only=True):
    """A sealed message, taken apart. `key` in hex; `salt` b"" where the key needs none."""

    key: str
    salt: bytes
    nonce: bytes
    data: bytes

    def encode(self) -> bytes:
        import base64
        import json

        parts = {"sealed": _VERSION, "key": self.key}
        parts |= {name: base64.b64encode(getattr(self, name)).decode() for name in ("salt", "nonce", "data")}
        return json.dumps(parts, separators=(",", ":")).encode()


def _decoded(data: bytes, place: str, hint: str) -> _Envelope:
    """Raises StateCorrupt for anything that `encode` did not write, to the byte, and StateTooNew."""
    import base64
    import json

    broken = StateCorrupt(f"{place} is encrypted, and damaged", hint=hint)
    try:
        parts = json.loads(data)
        version, key = parts["sealed"], parts["key"]
        salt, nonce, sealed = (
            base64.b64decode(parts[name], validate=True) for name in ("salt", "nonce", "data")
        )
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise broken from error
    if version != _VERSION and isinstance(version, str) and re.fullmatch(r"[2-9]|[1-9][0-9]{1,3}", version):
        raise StateTooNew(
            f"{place} is encrypted in the format {version}, this version knows {_VERSION}",
            hint="update reconciler to at least the version that wrote it",
        )
    envelope = _Envelope(key=str(key), salt=salt, nonce=nonce, data=sealed)
    if envelope.encode() != data or len(salt) not in (0, _SALT) or len(nonce) != _NONCE:
        raise broken
    return envelope


def _random_bytes(text: str) -> bytes | None:
    """The 32 bytes that the text spells in hex or base64; None for what spells anything else."""
    if re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        return bytes.fromhex(text)
    if re.fullmatch(r"[A-Za-z0-9+/]{43}=?|[A-Za-z0-9_-]{43}=?", text):
        import base64

        return base64.b64decode(text.rstrip("=").replace("-", "+").replace("_", "/") + "=")
    return None


def _stretched(text: str, salt: bytes, name: str) -> bytes:
    """Forty bytes: a cipher's key, and what tells it from others."""
    random, size = _random_bytes(text), 32 + _ID
    try:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
    except ImportError as error:
        raise StoreError(
            f"the state is to be encrypted with {name}, and the package `cryptography` is not installed",
            hint="pip install 'sandbox-reconciler[encryption]'",
        ) from error
    material: bytes
    if random is not None:
        material = HKDF(algorithm=SHA256(), length=size, salt=None, info=_PURPOSE).derive(random)
    else:
        stretch = Scrypt(salt=salt, length=size, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P)
        material = stretch.derive(text.encode(errors="surrogateescape"))
    return material


def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _keyless(place: str) -> StoreError:
    return StoreError(
        f"{place} is encrypted, and the configuration names no key",
        hint="say where the key is: `state: {encryption: {key: {env: RECONCILER_ENCRYPTION_KEY}}}`, and set that variable",
    )
