"""What a configuration says besides its sandboxes: backends and the store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from reconciler.config.diagnostics import at
from reconciler.config.interpolate import Interpolator, Scope
from reconciler.config.nodes import Node, new_mapping
from reconciler.config.schema import validate
from reconciler.config.sections import Section
from reconciler.config.values import Wrong, absolute_path, duration
from reconciler.model.desired import BackendConfig, StoreConfig

DEFAULT_BACKEND = "process"

# Options that are paths: relative ones mean relative to the file that says them. A store's own `path` stays as it is
# written: the store is told the directory.
_PATHS = frozenset(
    {
        ("root",),
        ("secrets_root",),
        ("kubeconfig",),
        ("api_key", "file"),
        ("token", "file"),
        ("password", "file"),
        ("ca_cert",),
        ("url", "file"),
        ("tls", "ca_cert"),
        ("tls", "client_cert"),
        ("tls", "client_key"),
        ("encryption", "key", "file"),
        ("encryption", "fallback_keys", "file"),
    }
)
_BACKEND_PATHS = _PATHS | {("path",)}
_CREDENTIALS = r"://[^/@\s]*:[^/@\s]+@|\bpassword="
_DURATIONS = frozenset(
    {("timeout",), ("create_timeout",), ("stop_timeout",), ("address_timeout",)}
)  # handed over in seconds


def make_backends(section: Section, scope: Scope) -> dict[str, BackendConfig]:
    """The backends by name; the embedded one where none is declared."""
    if not section.present:
        return {DEFAULT_BACKEND: BackendConfig(name=DEFAULT_BACKEND, type=DEFAULT_BACKEND)}
    backends = {}
    for name, node in section.entries.items():
        filled = filled_block(node, scope, "backendEntry")
        kind = filled.get("type") if filled is not None else None
        if filled is not None and kind is not None:
            backends[name] = BackendConfig(
                name=name,
                type=kind.text or "",
                options=_options(
                    filled, "type", scope, known=":" not in (kind.text or ""), paths=_BACKEND_PATHS
                ),
                position=at(section.keys[name]),
            )
    return _with_shared_namespaces(backends)


def _with_shared_namespaces(backends: Mapping[str, BackendConfig]) -> dict[str, BackendConfig]:
    """A namespace that one backend is to make is made by whichever of those that share it comes first: they work side by side,
    and none may fail because another one was slower."""
    making = {_namespace(config) for config in backends.values() if config.options.get("create_namespace")}
    return {
        name: replace(config, options={**config.options, "create_namespace": True})
        if config.type == "kubernetes" and _namespace(config) in making
        else config
        for name, config in backends.items()
    }


def _namespace(config: BackendConfig) -> tuple[object, ...]:
    """Which one of which cluster, as far as the words say."""
    return tuple(str(config.options.get(key)) for key in ("kubeconfig", "context", "namespace"))


def make_store(node: Node | None, scope: Scope) -> StoreConfig:
    """Where the state is kept; the default store where nothing is said."""
    filled = None if node is None else filled_block(node, scope, "state")
    if filled is None:
        return StoreConfig()
    kind = filled.get("store")
    _warn_of_password(filled.get("url"), scope)
    return StoreConfig(
        type="file" if kind is None else kind.text or "", options=_options(filled, "store", scope)
    )


def _warn_of_password(url: Node | None, scope: Scope) -> None:
    if url is not None and url.text is not None and re.search(_CREDENTIALS, url.text):
        scope.problems.warning(
            url, "plain-secret", "the URL of the store is written in the file with its password",
            "write `url: {env: NAME}`, or leave the password to the environment",
        )  # fmt: skip


def filled_block(node: Node, scope: Scope, definition: str) -> Node | None:
    """A block with everything filled in and checked again, because the schema saw only `${…}` there; None when that is
    wrong, which is told, or was before."""
    fill = Interpolator(scope)
    filled = fill.fill(node)
    if fill.failed or node.damaged:
        return None
    if node.live:
        fresh = new_mapping(filled)
        for key, kid in filled.named().items():
            fresh.put(key, filled.keys[key], kid)
        return fresh if validate(fresh, scope.problems, definition=definition) else None
    return filled


def _options(
    node: Node,
    leave_out: str,
    scope: Scope,
    *,
    known: bool = True,
    paths: frozenset[tuple[str, ...]] = _PATHS,
) -> Mapping[str, object]:
    options = {}
    for key, kid in node.named().items():
        if key != leave_out and not key.startswith("x-"):
            try:
                options[key] = _option((key,), kid, scope, paths) if known else kid.data
            except Wrong as wrong:
                scope.problems.error(wrong.node, wrong.code, wrong.summary, wrong.fix)
    return options


def _option(path: tuple[str, ...], node: Node, scope: Scope, paths: frozenset[tuple[str, ...]]) -> Any:
    if node.kids is not None:
        return {key: _option((*path, key), kid, scope, paths) for key, kid in node.kids.items()}
    if node.items is not None:
        return [_option(path, item, scope, paths) for item in node.items]
    if path in paths and isinstance(node.data, str):
        return absolute_path(node, scope.environ)
    if path in _DURATIONS:
        return duration(node)
    return node.data
