"""`fmt`: one layout, comments beside their keys, the same meaning."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.config.diagnostics import Problems
from reconciler.config.format import format_text
from reconciler.config.load import compose
from reconciler.config.nodes import Source
from reconciler.errors import ConfigError
from tests.config.test_schema import LANGUAGE
from tests.support.effort import effort

EXAMPLES = sorted(
    path
    for path in (Path(__file__).parents[2] / "examples").rglob("*.yaml")
    if path.parent.name != "kubernetes"  # manifests, of several documents each
)


def text(block: str) -> str:
    return dedent(block).lstrip("\n")


CASES = {
    "top-level keys come in the language's order with an empty line between blocks": (
        """
        sandboxes:
          a: {}
        stack: s
        version: 1
        variables:
          v: {}
        """,
        """
        version: 1
        stack: s

        variables:
          v: {}

        sandboxes:
          a: {}
        """,
    ),
    "keys of a sandbox come in the language's order": (
        "sandboxes:\n  a:\n    readiness: none\n    labels: {}\n    image: b\n    replicas: 1\n    x-own: 1\n",
        "sandboxes:\n  a:\n    replicas: 1\n    image: b\n    labels: {}\n    readiness: none\n    x-own: 1\n",
    ),
    "indentation is two spaces and lists are indented": (
        "sandboxes:\n     a:\n         command:\n         - b\n         -   c\n         ports:\n         -   name: d\n             container: 1\n",
        "sandboxes:\n  a:\n    command:\n      - b\n      - c\n    ports:\n      - name: d\n        container: 1\n",
    ),
    "spaces inside brackets and behind keys are one": (
        "x-a:    {a:   1,b: [1,2 , 3 ],   c: {}}\n",
        "x-a: {a: 1, b: [1, 2, 3], c: {}}\n",
    ),
    "quotes and numbers stay as they are": (
        "x-a: {a: 'one', b: \"two\", c: 1.10, d: 0755, e: yes}\n",
        "x-a: {a: 'one', b: \"two\", c: 1.10, d: 0755, e: yes}\n",
    ),
    "a comment above a key goes with it": (
        "# about the stack\nstack: s  # and behind\n# about the version\nversion: 1\n",
        "# about the version\nversion: 1\n# about the stack\nstack: s  # and behind\n",
    ),
    "the editor's line and the file's comment stay on top": (
        "# yaml-language-server: $schema=x\n# a file\n\n# about the stack\nstack: s\nversion: 1\n",
        "# yaml-language-server: $schema=x\n# a file\n\nversion: 1\n# about the stack\nstack: s\n",
    ),
    "comments at the end of a block stay in it": (
        "sandboxes:\n    a:\n        image: b\n        # image: c\n    # b:\n    c: {}\n# end\n",
        "sandboxes:\n  a:\n    image: b\n    # image: c\n  # b:\n  c: {}\n\n# end\n",
    ),
    "comments of list items stay with them": (
        "x-a:\n- b # one\n# two\n- c\n-   # three\n    d: e\n",
        "x-a:\n  - b # one\n  # two\n  - c\n  # three\n  - d: e\n",
    ),
    "blocks of text keep their lines": (
        "x-a:\n    b: |\n        one\n          two\n\n        three\n\n    c: >-\n     folded\n     text\n",
        "x-a:\n  b: |\n    one\n      two\n\n    three\n\n  c: >-\n    folded\n    text\n",
    ),
    "blocks of text that keep their last empty lines": (
        "x-a:\n    b: |+\n        one\n\n    c: 1\n",
        "x-a:\n  b: |+\n    one\n\n  c: 1\n",
    ),
    "a block of text that begins with spaces": (
        "x-a:\n    b: |4\n            one\n        two\n",
        "x-a:\n  b: |2\n        one\n    two\n",
    ),
    "long lines are not wrapped": (
        f"x-a: {'word ' * 60}end\n",
        f"x-a: {'word ' * 60}end\n",
    ),
    "lines of a long text are indented": (
        "x-a:\n        b: one\n          two\n        c: 'three\n\n           four'\n",
        "x-a:\n  b: one\n    two\n  c: 'three\n\n    four'\n",
    ),
    "brackets over several lines keep their lines": (
        "x-a:\n    b: [\n        c,  # why\n        d\n    ]\n",
        "x-a:\n  b: [\n      c,  # why\n      d\n  ]\n",
    ),
    "anchors, aliases and merge keys stay": (
        "x-a: &a\n    b: 1\nx-c:\n    <<: *a\n    d: *a\n    e: &e [1]\n    f: &f\n     - 1\n",
        "x-a: &a\n  b: 1\n\nx-c:\n  <<: *a\n  d: *a\n  e: &e [1]\n  f: &f\n    - 1\n",
    ),
    "an anchor below its section's place keeps the order of the file": (
        "sandboxes:\n  a: &a\n    image: b\n  c: *a\ntemplates:\n  t: *a\nversion: 1\n",
        "sandboxes:\n  a: &a\n    image: b\n  c: *a\n\ntemplates:\n  t: *a\n\nversion: 1\n",
    ),
    "more than one empty line becomes one and trailing spaces go": (
        "version: 1   \n\n\n\nstack: s\nsandboxes:   \n\n  a:\n    image: b\n\n\n    labels: {}\n\n",
        "version: 1\n\nstack: s\n\nsandboxes:\n  a:\n    image: b\n\n    labels: {}\n",
    ),
    "values on the next line come up": ("stack:\n  s\nx-a:\n  [b]\n", "stack: s\nx-a: [b]\n"),
    "keys without a value stay without": ("x-a:\nx-b: {c: , d}\n", "x-a:\nx-b: {c: , d}\n"),
    "lists of lists": ("x-a:\n- - b\n  - c\n-\n  - d\n", "x-a:\n  - - b\n    - c\n  - - d\n"),
    "Windows line ends": ("version: 1\r\nstack: s\r\n", "version: 1\nstack: s\n"),
    "no line break at the end": ("version: 1\nstack: s", "version: 1\nstack: s\n"),
    "quotes inside comments and numbers signs inside values": (
        "x-a: 'a # b' # it's \"c\" # d\nx-b: a#b # c\n", "x-a: 'a # b' # it's \"c\" # d\nx-b: a#b # c\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES.keys())
def test_layout(before: str, after: str) -> None:
    before = text(before) if before.startswith("\n") else before
    after = text(after) if after.startswith("\n") else after

    assert format_text(before, "f.yaml") == after
    assert format_text(after, "f.yaml") == after


@pytest.mark.parametrize(
    "broken", ["a: [b\n", "", "# only a comment\n", "- a\n", "a: 1\na: 2\n", "a: *b\n"],
    ids=["not closed", "empty", "a comment", "a list", "a key twice", "an unknown anchor"],
)  # fmt: skip
def test_what_is_not_well_formed_is_refused(broken: str) -> None:
    with pytest.raises(ConfigError) as caught:
        format_text(broken, "f.yaml")

    assert caught.value.diagnostics


@pytest.mark.parametrize("odd", ["%YAML 1.1\n---\na: 1\n", "? a\n: b\n", "&a\nb: 1\n"])
def test_what_has_no_canonical_layout_is_refused_and_says_so(odd: str) -> None:
    with pytest.raises(ConfigError, match=r"f\.yaml cannot be formatted") as caught:
        format_text(odd, "f.yaml")

    assert "nothing was written" in caught.value.hint


def test_the_language_only_loses_its_columns() -> None:
    expected = re.sub(r"(?m)^( *(?!#)[a-z]+:) +", r"\1 ", LANGUAGE)

    assert format_text(LANGUAGE, "f.yaml") == expected


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_examples_keep_their_meaning(path: Path) -> None:
    before = path.read_text(encoding="utf-8")

    assert meaning(format_text(before, path.name)) == meaning(before)


# --- generated layouts -------------------------------------------------------------------------------------------


def meaning(content: str) -> Any:
    problems = Problems()
    root = compose(Source("f.yaml", Path(), content), problems)
    problems.raise_if_any()
    assert root is not None
    return root.data


def comments(content: str) -> list[str]:
    return sorted(re.findall(r"# c[0-9]+", content))


WORDS = st.one_of(
    st.sampled_from(["a", "1.10", "yes", "${var.x}", "two words", "a: b", "- c", "line\nline\n", "x\n\n  y", "'", '"', "#d", ""]),
    st.integers(-5, 5000), st.booleans(), st.none(), st.text(alphabet="ab #:'\"{}[],&*|>-\n", max_size=12),
)  # fmt: skip
TREES = st.recursive(
    WORDS,
    lambda kids: st.one_of(
        st.lists(kids, max_size=4),
        st.dictionaries(
            st.sampled_from(["image", "labels", "x-k", "replicas", "k l", "n"]), kids, max_size=4
        ),
    ),
    max_leaves=12,
)
TOPS = st.dictionaries(
    st.sampled_from(["sandboxes", "templates", "version", "stack", "x-a", "outputs", "defaults"]),
    TREES,
    min_size=1,
    max_size=5,
)


@settings(max_examples=effort(150, 600), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), TOPS, st.integers(2, 6), st.sampled_from([None, False, True]), st.booleans())
def test_generated_files_keep_meaning_and_comments_and_settle(
    data: st.DataObject, tree: dict[str, Any], indent: int, flow: bool | None, quoted: bool
) -> None:
    before = yaml.safe_dump(
        tree, indent=indent, default_flow_style=flow, sort_keys=False, default_style='"' if quoted else None,
        width=data.draw(st.sampled_from([20, 10_000])), allow_unicode=True,
    )  # fmt: skip
    before = _with_comments(data, before)

    after = format_text(before, "f.yaml")

    assert meaning(after) == meaning(before)
    assert comments(after) == comments(before)
    assert format_text(after, "f.yaml") == after


def _with_comments(data: st.DataObject, content: str) -> str:
    """The text with comments and empty lines at places where they change nothing."""
    try:
        expected = meaning(content)
    except ConfigError:
        return content
    lines = content.splitlines()
    for number in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(lines)))
        kind = data.draw(st.sampled_from(["own", "behind", "blank"]))
        tried = list(lines)
        if kind == "blank":
            tried.insert(at, "")
        elif kind == "behind" and at < len(lines):
            tried[at] += f"  # c{number}"
        else:
            tried.insert(at, " " * data.draw(st.integers(0, 8)) + f"# c{number}")
        try:
            same = meaning("\n".join(tried) + "\n") == expected
        except ConfigError:
            same = False
        if same:
            lines = tried
    return "\n".join(lines) + "\n"
