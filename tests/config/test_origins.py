"""Of every value it can be said whether it came from a template or the defaults, by its place alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.config.configure import configure
from reconciler.model.desired import Desired
from reconciler.model.position import Block, Position, origin
from tests.config.written import HEAD, desired, write

PLACES = (
    Block(title="defaults", file="a.yaml", first=3, last=5),
    Block(title="template t", file="a.yaml", first=7, first_column=13, last=7, last_column=20),
    Block(title="template u", file="a.yaml", first=7, first_column=23, last=9, last_column=4),
)


@pytest.mark.parametrize(
    ("file", "line", "column", "title"),
    [
        pytest.param("a.yaml", 2, 1, "", id="above"),
        pytest.param("a.yaml", 3, 1, "defaults", id="the first line"),
        pytest.param("a.yaml", 5, 99, "defaults", id="the end of the last line"),
        pytest.param("a.yaml", 6, 1, "", id="below"),
        pytest.param("b.yaml", 4, 1, "", id="another file"),
        pytest.param("a.yaml", 7, 12, "", id="left of a block on one line"),
        pytest.param("a.yaml", 7, 13, "template t", id="its first column"),
        pytest.param("a.yaml", 7, 20, "template t", id="its last column"),
        pytest.param("a.yaml", 7, 21, "", id="between two on one line"),
        pytest.param("a.yaml", 7, 23, "template u", id="the next on the same line"),
        pytest.param("a.yaml", 8, 1, "template u", id="a line inside"),
        pytest.param("a.yaml", 9, 5, "", id="behind its end"),
    ],
)
def test_the_origin_of_a_place(file: str, line: int, column: int, title: str) -> None:
    assert origin(PLACES, Position(file, line, column)) == title


def test_without_blocks_there_is_no_origin() -> None:
    assert origin((), Position("a.yaml", 1, 1)) == ""


def origins(fleet: Desired) -> dict[str, str]:
    """By the path of each field of the one sandbox called `box`."""
    box = fleet.sandboxes["box"]  # type: ignore[index]
    return {path: origin(fleet.blocks, place) for path, place in box.where.items() if "." in path}


IN_BLOCKS = """\
defaults:
  labels:
    team: search

# the templates
templates:
  base:
    environment:
      A: |
        # no comment
        text
    # a comment below
  aio:
    template: base
    resources: {cpu: 1,
      memory: 1Gi}

  x-free: {runtime: a}
sandboxes:
  box:
    template: aio
    environment: {B: b}
    resources: {pids: 5}
"""
IN_BRACKETS = """\
defaults: {labels: {team: search}}
templates: {base: {environment: {A: a}}, aio: {template: base, resources: {cpu: 1, memory: 1Gi}}}
sandboxes: {box: {template: aio, environment: {B: b}, resources: {pids: 5}}}
"""
IN_REVERSE = """\
sandboxes:
  box:
    template: aio
    environment: {B: b}
    resources: {pids: 5}
templates:
  aio:
    template: base
    resources:
      cpu: 1
      memory: 1Gi
  base: {environment: {A: a}}
defaults:
  labels:
    team: search"""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(IN_BLOCKS, id="block style"),
        pytest.param(IN_BRACKETS, id="flow style, two templates on one line"),
        pytest.param(IN_REVERSE, id="the other way round, without a line break at the end"),
    ],
)
def test_each_field_is_of_where_it_was_said(tmp_path: Path, text: str) -> None:
    assert origins(desired(tmp_path, text)) == {
        "environment.A": "template base",
        "environment.B": "",
        "labels.team": "defaults",
        "resources.cpu": "template aio",
        "resources.memory": "template aio",
        "resources.pids": "",
    }


def test_blocks_end_with_their_last_line(tmp_path: Path) -> None:
    blocks = desired(tmp_path, IN_BLOCKS).blocks

    assert [(block.title, block.first, block.last) for block in blocks] == [
        ("defaults", 3, 5), ("template base", 9, 13), ("template aio", 15, 18),
    ]  # fmt: skip


def test_the_blocks_of_several_files_are_known(tmp_path: Path) -> None:
    write(tmp_path, HEAD + "defaults: {labels: {a: a}}\nsandboxes: {box: {template: t}}\n", "a.yaml")
    write(
        tmp_path,
        "defaults: {environment: {B: b}}\ntemplates:\n  t: {resources: {pids: 1}}\n",
        "b.yaml",
    )

    fleet = configure(directory=tmp_path, environ={}).desired

    assert origins(fleet) == {
        "labels.a": "defaults",
        "environment.B": "defaults",
        "resources.pids": "template t",
    }
    assert [block.file for block in fleet.blocks] == ["a.yaml", "b.yaml", "b.yaml"]


def test_what_an_anchor_brings_in_is_of_where_it_was_written(tmp_path: Path) -> None:
    text = (
        "x-shared: &shared {runtime: a}\n"
        "templates:\n"
        "  whole: *shared\n"
        "  merged: {<<: *shared, environment: &env {A: a}}\n"
        "sandboxes:\n"
        "  box: {template: merged, labels: *env}\n"
    )

    fleet = desired(tmp_path, text)

    assert [block.title for block in fleet.blocks] == ["template merged"]
    assert origin(fleet.blocks, fleet.sandboxes["box"].at("runtime")) == ""  # type: ignore[index]
    assert origins(fleet) == {"environment.A": "template merged", "labels.A": "template merged"}


def test_what_is_no_block_has_no_place(tmp_path: Path) -> None:
    assert desired(tmp_path, "defaults: {}\nsandboxes: {box: {}}\n").blocks == (
        Block(title="defaults", file="sandboxes.yaml", first=3, last=3, first_column=1, last_column=12),
    )
    assert desired(tmp_path, "templates: {}\nsandboxes: {box: {}}\n").blocks == ()
