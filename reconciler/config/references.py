"""Credentials of the store and of backends by reference: from `{env: NAME}`, `{file: PATH}` or `{command: […]}` to a value.

They are read when that is opened and stay in `Secret`; state, plan and messages know where they come from at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from reconciler.config.secrets import read_reference
from reconciler.errors import ConfigError
from reconciler.model.desired import BackendConfig, Secret, SecretRef, StoreConfig

_KEYED = frozenset({"remote", "url"})
_KINDS = ("env", "file", "command")


def with_credentials(
    config: StoreConfig, *, directory: str, environ: Mapping[str, str], run: Callable[[Sequence[str]], str]
) -> StoreConfig:
    """The same with a `Secret` for every option that is a reference. `run` as in `resolve_secrets`. Raises ConfigError,
    naming the option, for one that cannot be had or is empty."""
    options = dict(config.options)
    for option, value in config.options.items():
        found = _reference(value)
        if found is not None:
            options[option] = _read(found, f"state.{option}", directory, environ, run)
    return replace(config, options=options)


def with_key(
    config: BackendConfig, *, directory: str, environ: Mapping[str, str], run: Callable[[Sequence[str]], str]
) -> BackendConfig:
    """The same with a `Secret` for the `api_key` of a backend of ours; a third party's options are its own. As
    `with_credentials` otherwise."""
    found = _reference(config.options.get("api_key")) if config.type in _KEYED else None
    if found is None:
        return config
    secret = _read(found, f"backends.{config.name}.api_key", directory, environ, run)
    return replace(config, options={**config.options, "api_key": secret})


def without_key(config: BackendConfig) -> BackendConfig:
    """The same for a run that asks no backend, and so needs no key."""
    if config.type not in _KEYED:
        return config
    options = {name: value for name, value in config.options.items() if name != "api_key"}
    return replace(config, options=options)


def _read(
    found: SecretRef,
    what: str,
    directory: str,
    environ: Mapping[str, str],
    run: Callable[[Sequence[str]], str],
) -> Secret:
    text = read_reference(found, f"`{what}`", directory=directory, environ=environ, run=run)
    if not text:
        raise ConfigError(f"`{what}` is empty ({found.source})", hint="give it a value")
    return Secret(text)


def _reference(value: object) -> SecretRef | None:
    if not isinstance(value, Mapping):
        return None
    kinds = [kind for kind in _KINDS if kind in value]
    if len(kinds) != 1:
        return None
    [kind] = kinds
    target = value[kind]
    words = (target,) if isinstance(target, str) else tuple(str(word) for word in target)
    return SecretRef(source=f"{kind} {words[0]}", kind=kind, target=words, delivery="file")
