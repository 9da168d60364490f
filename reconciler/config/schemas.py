"""Where the JSON Schemas are: beside the package in a wheel, in `schemas/` of a checkout. Must never edit them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from reconciler.errors import ReconcilerError

_SUFFIX = ".v1.schema.json"


def _folder() -> Path:
    packaged = Path(__file__).resolve().parents[1] / "schemas"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "schemas"


def schema_names() -> tuple[str, ...]:
    """The names `schema_text` knows, sorted: audit, config, event, notification, plan, state."""
    files = (entry.name for entry in _folder().iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in files if name.endswith(_SUFFIX)))


@cache
def schema_text(name: str) -> str:
    """The schema as it is shipped. Raises ReconcilerError for an unknown name."""
    file = _folder() / f"{name}{_SUFFIX}"
    if "/" in name or "\\" in name or not file.is_file():
        raise ReconcilerError(
            f"there is no schema `{name}`", hint=f"choose one of {', '.join(schema_names())}"
        )
    return file.read_text(encoding="utf-8")
