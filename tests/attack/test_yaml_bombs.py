"""Files made to eat time and memory: refused, or read, in proportion to their size."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest

from reconciler.config.configure import configure
from reconciler.config.diagnostics import render
from reconciler.errors import ConfigError
from reconciler.model.diagnostic import Diagnostic

HEAD = "version: 1\nstack: demo\n"
MB = 1024 * 1024
_TENS = "abcdefghijklmnop"
LAUGHS = "x-a: &a [" + "1," * 9 + "1]\n" + "".join(
    f"x-{after}: &{after} [{','.join([f'*{before}'] * 10)}]\n" for before, after in pairwise(_TENS)
)  # fmt: skip
BOMBS = {
    "a billion laughs": (HEAD + LAUGHS, "too-large"),
    "merge keys of merge keys": (
        HEAD + "x-a: &a {" + ",".join(f"k{i}: 1" for i in range(1000)) + "}\n"
        + "".join(f"x-{i}: {{<<: [{','.join(['*a'] * 1000)}]}}\n" for i in range(20)),
        "too-large",
    ),
    "a chain of merge keys, each twice": (
        HEAD + "x-0: &a0 {k: 1}\n" + "".join(f"x-{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 60)),
        "too-large",
    ),
    "an alias of itself": (HEAD + "x-a: &a [*a]\n", "recursion"),
    "brackets a hundred thousand deep": (HEAD + "x-a: " + "[" * 100_000, ""),
    "blocks two thousand deep": ("".join(" " * depth + "a:\n" for depth in range(2000)), "too-deep"),
    "dashes a hundred thousand deep": ("- " * 100_000, "too-deep"),
    "question marks": ("? " * 20_000, "too-deep"),
    "a file that is too large": ("# " + "a" * (11 * MB), "too-large"),
    "a billion replicas": (HEAD + "sandboxes: {b: {replicas: 1000000000}}\n", "wrong-value"),
    "a number of a hundred thousand digits": (
        HEAD + f"sandboxes: {{b: {{ports: [{{name: a, container: {'9' * 100_000}}}]}}}}\n", "wrong-value",
    ),
    "a duration of a hundred thousand hours": (
        HEAD + f"sandboxes: {{b: {{readiness: {{timeout: {'1h' * 100_000}}}}}}}\n", "wrong-value",
    ),
    "interpolations in each other without end": (
        HEAD + "sandboxes: {b: {environment: {A: '" + "${" * 10_000 + "'}}}\n", "",
    ),
    "UTF-16": (HEAD.encode("utf-16"), "encoding"),
    "UTF-32": (HEAD.encode("utf-32"), "encoding"),
    "bytes that are no text": (HEAD.encode() + b"x-a: \xff\xfe\n", "encoding"),
    "a NUL": (HEAD + "x-a: a\0b\n", "control-character"),
    "a name of a megabyte": (HEAD + f"sandboxes: {{{'b' * MB}: {{}}}}\n", ""),
    "five thousand mistakes": (HEAD + "sandboxes:\n" + "".join(f"  b{i}: {{zzz: 1}}\n" for i in range(5_000)), "unknown-key"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "code"), BOMBS.values(), ids=BOMBS.keys())
def test_it_is_refused_with_a_place_in_bounded_memory(tmp_path: Path, text: str | bytes, code: str) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "sandboxes.yaml").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError) as raised:
            configure(directory=tmp_path, environ={})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    found = [item for item in raised.value.diagnostics if isinstance(item, Diagnostic)]
    assert found
    assert not code or code in {item.code for item in found}, {item.code for item in found}
    assert len(render(found[0], width=80)) < 10_000
    assert most < 256 * MB


FINE = {
    "fifty thousand sandboxes' worth of free keys": HEAD + "x-a:\n" + "".join(f"  k{i}: 1\n" for i in range(50_000)),
    "a line of eight megabytes": HEAD + "x-a: " + "a" * (8 * MB) + "\n",
    "a hundred thousand anchors": HEAD + "x-a:\n" + "".join(f"  - &a{i} x\n" for i in range(100_000)),
    "a mark of byte order": "\ufeff" + HEAD,
    "interpolations without end": HEAD + "x-a: '" + "${" * 100_000 + "'\n",
}  # fmt: skip


@pytest.mark.parametrize("text", FINE.values(), ids=FINE.keys())
def test_what_is_merely_large_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "sandboxes.yaml").write_text(text, encoding="utf-8")
    assert configure(directory=tmp_path, environ={}).desired.stack == "demo"
