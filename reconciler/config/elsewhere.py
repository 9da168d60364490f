"""The `state:` of another file: a configuration as it was before, or the block alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reconciler.config.diagnostics import Problems, quote
from reconciler.config.interpolate import Scope
from reconciler.config.load import read
from reconciler.config.schema import validate
from reconciler.config.settings import make_store
from reconciler.model.desired import StoreConfig


def store_elsewhere(
    path: Path, *, stack: str, directory: Path, environ: Mapping[str, str]
) -> tuple[StoreConfig, Path]:
    """Where that file says that the state of `stack` is, and the directory that its paths are relative to. `path` is
    relative to `directory`. Of the rest of the file only `stack` is looked at; variables are not known.

    Raises ConfigError, also for a file that is about another stack."""
    problems = Problems()
    document = read([path], directory, problems)
    problems.raise_if_any()
    assert document is not None
    node, other = document.root.get("state"), document.root.get("stack")
    if other is not None and other.text != stack:
        problems.error(
            other, "wrong-value", f"this is about stack {quote(other.text or '')}, not {quote(stack)}",
            "name the file that said before where the state of this stack is",
        )  # fmt: skip
    if node is None and document.root.get("version") is None:
        problems.error(document.root, "missing-key", "`state` is missing", "add `state: {store: …}`")
    if node is not None:
        validate(node, problems, definition="state")
    scope = Scope(stack=stack, variables={}, environ=environ, problems=problems)
    config = make_store(node, scope)
    problems.raise_if_any()
    return config, document.directory
