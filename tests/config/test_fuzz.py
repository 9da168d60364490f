"""Whatever is in a file, the answer is a configuration or a ConfigError with a place and a fix."""

from __future__ import annotations

import contextlib
import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.config.configure import configure
from reconciler.config.diagnostics import render
from reconciler.config.format import format_text
from reconciler.errors import ConfigError
from reconciler.model.diagnostic import Diagnostic
from tests.config.test_schema import LANGUAGE
from tests.support.effort import effort

pytestmark = pytest.mark.no_cover

GENTLE = settings(
    max_examples=effort(150, 600),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
DATA: dict[str, Any] = yaml.safe_load(LANGUAGE)
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12), st.just([]), st.just({}), st.just([[{}]]), st.just({"a": {"b": None}}),
    st.sampled_from([
        "${", "${var.image}", "${var.token}", "$${x}", "${each.key}", "${each.value.x.y}", "${replica.index}",
        "${sandbox.db.url}", "${sandbox.researcher.url}", "${sandbox.researcher[1].ports.http}", "${env.X:-y}",
        "${env.X}", "${stack}", "${var.image}${var.token}", "db[0]", "none", "auto", "1h", "-1", "aio", "local", "x" * 70,
    ]),
)  # fmt: skip


def answer(content: bytes) -> None:
    """Configure it, and check what comes back."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sandboxes.yaml").write_bytes(content)
        try:
            configure(directory=Path(folder), environ={}, var=["token=hunter2hush"])
        except ConfigError as error:
            found = error.diagnostics
        else:
            return
    assert found
    for item in found:
        assert isinstance(item, Diagnostic)
        assert item.summary
        assert item.fix
        assert "hunter2hush" not in repr(item)
        assert all(char == "\n" or char.isprintable() for char in render(item, width=60))


@GENTLE
@given(st.data())
def test_changed_bytes(data: st.DataObject) -> None:
    content = bytearray(LANGUAGE.encode())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["set", "cut", "insert", "double"]))
        if kind == "set":
            content[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del content[at : at + data.draw(st.integers(1, 40))]
        elif kind == "insert":
            content[at:at] = data.draw(st.sampled_from([b"\t", b"- ", b"&a ", b"*a", b"<<: ", b"{", b"]", b"'", b'"', b"|\n", b"${", b": ", b"#", b"!!x ", b"\x00", b"\xc3", b"?", b"%", b"---\n", b"...\n"]))  # fmt: skip
        else:
            content[at:at] = content[at : at + data.draw(st.integers(1, 200))]
        if not content:
            content = bytearray(b" ")
    answer(bytes(content))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, kid in value.items():
            found += places(kid, (*path, key))
    elif isinstance(value, list):
        for index, kid in enumerate(value):
            found += places(kid, (*path, index))
    return found


PLACES = places(DATA)


@GENTLE
@given(st.lists(st.tuples(st.sampled_from(PLACES), ODD), min_size=1, max_size=4))
def test_swapped_values(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    made = copy.deepcopy(DATA)
    for path, value in changes:
        parent = made
        try:
            for step in path[:-1]:
                parent = parent[step]
            parent[path[-1]] = copy.deepcopy(value)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    answer(json.dumps(made).encode())


@GENTLE
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(PLACES)), min_size=1, max_size=3))
def test_swapped_places(swaps: list[tuple[tuple[Any, ...], tuple[Any, ...]]]) -> None:
    made = copy.deepcopy(DATA)

    def parent_of(path: tuple[Any, ...]) -> Any:
        parent: Any = made
        for step in path[:-1]:
            parent = parent[step]
        return parent

    for one, other in swaps:
        try:
            first, second = copy.deepcopy(parent_of(one)[one[-1]]), copy.deepcopy(parent_of(other)[other[-1]])
            parent_of(one)[one[-1]] = second
            parent_of(other)[other[-1]] = first
        except (KeyError, IndexError, TypeError):
            continue
    answer(json.dumps(made).encode())


@settings(GENTLE, max_examples=effort(75, 300))
@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    answer(content)


@settings(GENTLE, max_examples=effort(75, 300))
@given(st.text(alphabet="ab:- \n\t{}[],'\"#&*!|>?%@`<$\\", max_size=60))
def test_any_text_of_yaml_characters(text: str) -> None:
    answer(text.encode())
    with contextlib.suppress(ConfigError):
        assert format_text(text, "f.yaml")
