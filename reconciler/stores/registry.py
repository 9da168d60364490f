"""Store type name → store. Our own by table, third parties' by the entry point group `reconciler.stores`.

Imports no store before it is asked for. Must never open, create or lock anything by itself.

A store's class is called with the stack's name and, by keyword, what `state:` says beside `store:`. It lists those
keywords in a class attribute `options`; without one, its keyword-only parameters count. `encryption` is for every store
that has a keyword `sealer`: it is given one where the configuration asks for encryption.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.errors import ConfigError
from reconciler.model.desired import StoreConfig
from reconciler.stores.base import Store
from reconciler.stores.references import check_reference, name_of, read_reference
from reconciler.stores.sealing import KeySealer, KeySource

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "reconciler.stores"
_OURS: Mapping[str, str] = {
    "file": "reconciler.stores.file:FileStore",
    "http": "reconciler.stores.http:HttpStore",
    "kubernetes": "reconciler.stores.kubernetes:KubernetesStore",
    "memory": "reconciler.stores.memory:MemoryStore",
    "postgres": "reconciler.stores.postgres:PostgresStore",
}
_EXTRAS = ("postgres",)  # what pip installs more for a store of ours: `sandbox-reconciler[NAME]`
DEFAULT_PATH = "state"  # of a file store that names none, beside the configuration


def store_types() -> tuple[str, ...]:
    """Every name that `open_store` takes here and now, sorted."""
    return tuple(sorted({*_OURS, *(point.name for point in _third_parties())}))


def open_store(
    config: StoreConfig, *, stack: str, directory: Path, environ: Mapping[str, str] | None = None
) -> Store:
    """The store of one stack. A relative `path` option is relative to `directory`, that of the configuration; `environ`
    is where keys by reference are looked up, the process's own when None. Raises ConfigError for a type or an option
    that there is not."""
    made = _class(config.type)
    options = dict(config.options)
    encryption = options.pop("encryption", None)
    _refuse_unknown(config.type, options, _accepted(made))
    if encryption is not None:
        if "sealer" not in inspect.signature(made).parameters:
            raise ConfigError(f"state: store {config.type!r} cannot encrypt", hint="leave `encryption` out")
        options["sealer"] = _sealer(encryption, stack, directory, os.environ if environ is None else environ)
    path = options.get("path", DEFAULT_PATH if config.type == "file" else None)
    if isinstance(path, (str, Path)):
        options["path"] = directory / Path(path).expanduser()
    try:
        store = made(stack, **options)
    except TypeError as error:
        raise ConfigError(f"state: store {config.type!r} does not take these options: {error}") from error
    if not isinstance(store, Store):
        raise ConfigError(
            f"state: {made.__qualname__} is no store", hint=f"a store derives from {Store.__module__}.Store"
        )
    return store


def _sealer(said: object, stack: str, directory: Path, environ: Mapping[str, str]) -> KeySealer:
    """What `encryption:` says, as a sealer. No key is read yet."""
    if not isinstance(said, Mapping):
        raise ConfigError("state: `encryption` is no mapping", hint="write encryption: {key: {env: NAME}}")

    def source(reference: object, where: str) -> KeySource:
        checked = check_reference(reference, where=f"state: `encryption.{where}`")
        read = partial(
            read_reference, checked, what="the encryption key", directory=directory, environ=environ
        )
        return KeySource(name=name_of(checked), read=read)

    key, others = said.get("key"), said.get("fallback_keys") or ()
    return KeySealer(
        stack,
        key=None if key is None else source(key, "key"),
        others=[source(other, "fallback_keys") for other in others],
        enforced=said.get("enforced") is True,
    )


def _third_parties() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points

    return (point for point in entry_points(group=GROUP) if point.name not in _OURS)


def _class(name: str) -> type[Any]:
    if name in _OURS:
        module, _, attribute = _OURS[name].partition(":")
        try:
            found = getattr(import_module(module), attribute)
        except ImportError as error:
            if name not in _EXTRAS:
                raise
            raise ConfigError(
                f"state: store {name!r} cannot be imported: {error}",
                hint=f"pip install 'sandbox-reconciler[{name}]'",
            ) from error
        assert isinstance(found, type)
        return found
    for point in _third_parties():
        if point.name == name:
            return _loaded(point)
    raise ConfigError(f"state: there is no store {name!r}", hint=_suggest(name, store_types()))


def _loaded(point: EntryPoint) -> type[Any]:
    try:
        found = point.load()
    except Exception as error:  # a third party's module may fail in any way
        raise ConfigError(
            f"state: store {point.name!r} ({point.value}) cannot be loaded: {type(error).__name__}: {error}",
            hint="check that the package that brings it is whole",
        ) from error
    if not isinstance(found, type):
        raise ConfigError(f"state: store {point.name!r} ({point.value}) is no class")
    return found


def _accepted(made: type[Any]) -> tuple[str, ...]:
    listed = getattr(made, "options", None)
    if listed is not None:
        return tuple(listed)
    parameters = inspect.signature(made).parameters.values()
    return tuple(
        p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name != "sealer"
    )


def _refuse_unknown(name: str, options: Mapping[str, object], accepted: tuple[str, ...]) -> None:
    for option in sorted(options):
        if option not in accepted:
            raise ConfigError(
                f"state: store {name!r} has no option {option!r}", hint=_suggest(option, sorted(accepted))
            )


def _suggest(word: str, known: Iterable[str]) -> str:
    known = tuple(known)
    import difflib  # only who mistyped something pays for it

    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else _choose(known)


def _choose(known: Iterable[str]) -> str:
    names = ", ".join(known)
    return f"choose one of: {names}" if names else "it takes no options"
