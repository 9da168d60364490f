"""The schemas are valid JSON Schema, and say something about everything in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from reconciler.config.schemas import schema_names, schema_text
from tests.docs.pages import ROOT


@pytest.mark.parametrize("name", schema_names())
def test_a_schema_is_valid_json_schema(name: str) -> None:
    jsonschema_rs.meta.validate(json.loads(schema_text(name)))


@pytest.mark.parametrize("name", schema_names())
def test_every_reference_of_a_schema_leads_somewhere(name: str) -> None:
    schema = json.loads(schema_text(name))
    for place, target in _references(schema, "#"):
        assert target.startswith("#/"), f"{place} refers outside"
        found: Any = schema
        for part in target.removeprefix("#/").split("/"):
            assert part in found, f"{place}: {target} is not there"
            found = found[part]


def _references(schema: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref":
                yield place, value
            else:
                yield from _references(value, f"{place}/{key}")
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from _references(value, f"{place}/{index}")


def test_the_schemas_in_the_package_are_those_of_the_folder() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in Path(ROOT, "schemas").glob("*.json")}
    assert files == {f"{name}.v1.schema.json": schema_text(name) for name in schema_names()}
