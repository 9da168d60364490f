"""The configurations that are measured: so many sandboxes on the memory backend, written in four ways; and Terraform's."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import once, reconciler

HEAD = """version: 1
stack: bench
backends: {main: {type: memory, path: world.json}}
"""
BODY = """    image: one
    environment: {LOG_LEVEL: info, REGION: eu}
    resources: {cpu: 1, memory: 1Gi, pids: 512}
"""
LITERAL = """  s{i}:
    image: registry.example.com/team/image:{i}
    environment:
      LOG_LEVEL: info
      INDEX: "{i}"
      REGION: eu
    resources:
      cpu: 1
      memory: 1Gi
      pids: 512
    labels:
      team: search
      tier: t{i}
"""


def replicas(folder: Path, count: int) -> None:
    _write(folder, f"{HEAD}sandboxes:\n  s:\n    replicas: {count}\n{BODY}")


def for_each(folder: Path, count: int) -> None:
    """Each with a value of its own that a field refers to."""
    keys = json.dumps({f"k{i}": f"v{i}" for i in range(count)})
    body = BODY.replace("REGION: eu", 'REGION: "${each.value}"')
    _write(folder, f"{HEAD}sandboxes:\n  s:\n    for_each: {keys}\n{body}")


def literal(folder: Path, count: int) -> None:
    """As many sandboxes written out one by one, 13 lines each."""
    _write(folder, f"{HEAD}sandboxes:\n" + "".join(LITERAL.format(i=i) for i in range(count)))


def files(folder: Path, count: int) -> None:
    """The same, each in a file of its own."""
    _write(folder, HEAD, "a.yaml")
    for i in range(count):
        _write(folder, f"sandboxes:\n{LITERAL.format(i=i)}", f"s{i:05}.yaml")


SHAPES: Mapping[str, Callable[[Path, int], None]] = {
    "replicas": replicas,
    "for_each": for_each,
    "literal YAML": literal,
    "a file each": files,
}


def _write(folder: Path, text: str, name: str = "sandboxes.yaml") -> None:
    (folder / name).write_text(text, encoding="utf-8")


@contextlib.contextmanager
def applied(shape: str, count: int) -> Iterator[Path]:
    """A folder with so many sandboxes that are there, so that a plan of it is empty."""
    with tempfile.TemporaryDirectory(prefix="rb") as name:
        folder = Path(name)
        SHAPES[shape](folder, count)
        once([*reconciler(), "apply", "--auto-approve", "-q"], folder)
        yield folder


PLAN = ("plan", "--detailed-exitcode")  # ends with 0 only when there is nothing to do


# -- the peer

TERRAFORM_PLAN = ["terraform", "plan", "-input=false", "-detailed-exitcode"]
# The same fields as ours, in the two ways that Terraform has of making many of one.
_INPUT: Mapping[str, Any] = {
    "image": "one",
    "environment": {"LOG_LEVEL": "info", "REGION": "eu"},
    "resources": {"cpu": 1, "memory": "1Gi", "pids": 512},
}


def _with_region(value: str) -> dict[str, Any]:
    return {**_INPUT, "environment": {**_INPUT["environment"], "REGION": value}}


_LIKE: Mapping[str, Callable[[int], Mapping[str, Any]]] = {
    "count": lambda count: {"count": count, "input": _INPUT},
    "for_each": lambda count: {
        "for_each": {f"k{i}": f"v{i}" for i in range(count)},
        "input": _with_region("${each.value}"),
    },
}


@contextlib.contextmanager
def terraform(like: str, count: int) -> Iterator[Path]:
    """A folder with as many `terraform_data` that are there; no provider is downloaded for those.

    To apply a thousand takes Terraform minutes, which is not what is measured: two are applied, and its state is
    continued to as many. Its own plan says, by its exit code, that nothing is to do then.
    """
    with tempfile.TemporaryDirectory(prefix="rb") as name:
        folder = Path(name)
        _resource(folder, like, 2)
        once(["terraform", "init", "-input=false"], folder)
        once(["terraform", "apply", "-auto-approve", "-input=false"], folder)
        state = folder / "terraform.tfstate"
        state.write_text(json.dumps(_continued(json.loads(state.read_text()), like, count)))
        _resource(folder, like, count)
        yield folder


def _resource(folder: Path, like: str, count: int) -> None:
    body = {"resource": {"terraform_data": {"s": _LIKE[like](count)}}}
    _write(folder, json.dumps(body), "main.tf.json")


def _continued(state: dict[str, Any], like: str, count: int) -> dict[str, Any]:
    [resource] = state["resources"]
    first = json.dumps(resource["instances"][0])
    resource["instances"] = [_instance(json.loads(first), like, i) for i in range(count)]
    return state


def _instance(instance: dict[str, Any], like: str, i: int) -> dict[str, Any]:
    instance["index_key"] = i if like == "count" else f"k{i}"
    instance["attributes"]["id"] = f"00000000-0000-4000-8000-{i:012}"
    if like == "for_each":
        for part in ("input", "output"):
            instance["attributes"][part]["value"] = _with_region(f"v{i}")
    return instance
