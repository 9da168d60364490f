"""Credentials of the store by reference: from `{env: NAME}`, `{file: PATH}` or `{command: […]}` to a value.

They are read when the store is opened and stay in `Secret`; state, plan and messages know where they come from at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from reconciler.config.secrets import read_reference
from reconciler.errors import ConfigError
from reconciler.model.desired import Secret, SecretRef, StoreConfig

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
            text = read_reference(found, f"`state.{option}`", directory=directory, environ=environ, run=run)
            if not text:
                raise ConfigError(f"`state.{option}` is empty ({found.source})", hint="give it a value")
            options[option] = Secret(text)
    return replace(config, options=options)


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
