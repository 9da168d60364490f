"""Documents of ours held against their schemas: plan files, so far."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from reconciler.config.schemas import schema_text

if TYPE_CHECKING:
    import jsonschema_rs


def departure(name: str, document: Any) -> str:
    """Where a document departs from the schema of that name, "" when it does not. Quotes no value: one may be where it
    does not belong."""
    error = next(_validator(name).iter_errors(document), None)
    if error is None:
        return ""
    where = ".".join(map(str, error.instance_path)) or "the document"
    return f"{where} is not as the schema has it"


@cache
def _validator(name: str) -> jsonschema_rs.Draft202012Validator:
    import jsonschema_rs

    return jsonschema_rs.Draft202012Validator(json.loads(schema_text(name)))
