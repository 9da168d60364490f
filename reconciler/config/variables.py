"""Values of variables: `--var k=v`, `--var-file`, `RECONCILER_VAR_k`, the default, the question; in that order.

Must never repeat the value of a sensitive variable in a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from reconciler.config import load, syntax
from reconciler.config.advice import describe
from reconciler.config.diagnostics import Problems, at, quote
from reconciler.config.events import Garbled, Misspelt
from reconciler.config.interpolate import Variable, kinds_in, suggest
from reconciler.config.nodes import Composer, Node, Source, Unreadable, resolve_plain
from reconciler.config.sections import Section

ENVIRON_PREFIX = "RECONCILER_VAR_"
_EXPECTED = {
    "string": "text",
    "number": "a number",
    "bool": "true or false",
    "list": "a list such as [a, b]",
    "map": "a mapping such as {a: 1}",
}
Ask = Callable[[str, bool], str]


class Given(Struct, frozen=True, kw_only=True):
    """Where values come from. `var` are `k=v` texts; `answers` is what a person answered before, and `ask(name, sensitive)` asks
    him, None where nobody is there."""

    var: Sequence[str] = ()
    var_files: Sequence[Path] = ()
    environ: Mapping[str, str]
    answers: Mapping[str, str] = field(default_factory=dict)
    ask: Ask | None = None


class _Candidate(Struct, frozen=True):
    """A value before its type is checked: text of a command line, a node of a file."""

    value: str | Node
    origin: str


def resolve(section: Section, given: Given, problems: Problems, *, directory: Path) -> dict[str, Variable]:
    """A value for each declared variable; those taken out for an error are there without a value."""
    declared = section.entries
    options = _from_options(given.var, problems)
    files = _from_files(given.var_files, problems, directory)
    for name, candidate in [*options.items(), *files.items()]:
        if section.lacks(name):
            _tell_undeclared(name, candidate, declared, problems)
    resolved = {name: Variable(known=False) for name in section.mentioned}
    for name, node in declared.items():
        value = options.get(name) or files.get(name) or _from_environ(name, given.environ)
        resolved[name] = _resolve_one(name, node, value, given, problems)
    return resolved


def _resolve_one(
    name: str, declared: Node, candidate: _Candidate | None, given: Given, problems: Problems
) -> Variable:
    sensitive = (node := declared.get("sensitive")) is not None and node.data is True
    default = declared.get("default")
    wanted = ((kind := declared.get("type")) is not None and kind.text) or "string"
    known = wanted in _EXPECTED and not declared.damaged
    if candidate is None and default is not None:
        if kinds_in(default):
            problems.error(
                default, "interpolation", f"the default of {quote(name)} cannot hold an interpolation",
                "write the value out; a variable's value is taken as it stands",
            )  # fmt: skip
            return Variable(sensitive=sensitive, known=False)
        candidate = _Candidate(default, "the default")
    if candidate is None and declared.damaged:
        return Variable(sensitive=sensitive, known=False)
    if candidate is None and name in given.answers:
        candidate = _Candidate(given.answers[name], "the answer")
    if candidate is None and given.ask is not None:
        candidate = _Candidate(given.ask(name, sensitive), "the answer")
    if candidate is None:
        problems.error(
            declared, "missing-variable", f"the variable {quote(name)} has no value",
            f"give --var {name}=…, set {ENVIRON_PREFIX}{name}, or add a default",
        )  # fmt: skip
        return Variable(sensitive=sensitive, known=False)
    if not known:
        return Variable(sensitive=sensitive, known=False)
    try:
        value = _typed(candidate.value, wanted)
    except ValueError:
        _tell_wrong_type(name, candidate, wanted, sensitive, problems)
        return Variable(sensitive=sensitive, known=False)
    return Variable(value=value, sensitive=sensitive)


# --- where values come from ------------------------------------------------------------------------------------


def _from_options(var: Iterable[str], problems: Problems) -> dict[str, _Candidate]:
    found: dict[str, _Candidate] = {}
    for text in var:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            problems.general(
                "variable", "--var takes NAME=VALUE", "write, for example, --var image=python:3.12"
            )
        else:
            found[name] = _Candidate(value, f"--var {name}")
    return found


def _from_files(files: Iterable[Path], problems: Problems, directory: Path) -> dict[str, _Candidate]:
    found = {}
    for path in files:
        document = load.read_one(path, directory, problems)
        if document is not None:
            for name, node in document.named().items():
                if not name.startswith("x-"):
                    found[name] = _Candidate(node, f"the file {node.source.name}")
    return found


def _from_environ(name: str, environ: Mapping[str, str]) -> _Candidate | None:
    value = environ.get(ENVIRON_PREFIX + name)
    return None if value is None else _Candidate(value, ENVIRON_PREFIX + name)


def _tell_undeclared(
    name: str, candidate: _Candidate, declared: Mapping[str, Node], problems: Problems
) -> None:
    fix = suggest(name, declared, "declare it under `variables`")
    summary = f"{candidate.origin} sets {quote(name)}, which is not a declared variable"
    where = at(candidate.value) if isinstance(candidate.value, Node) else None
    problems.general("unknown-variable", summary, fix, where)


def _tell_wrong_type(
    name: str, candidate: _Candidate, wanted: str, sensitive: bool, problems: Problems
) -> None:
    value = candidate.value
    found = ""
    if not sensitive:
        found = f", not {describe(value) if isinstance(value, Node) else quote(value)}"
    summary = f"{candidate.origin} of the variable {quote(name)} must be {_EXPECTED[wanted]}{found}"
    if candidate.origin.startswith(("--var", ENVIRON_PREFIX)):
        summary = f"{candidate.origin} must be {_EXPECTED[wanted]}{found}"
    fix = f"give {_EXPECTED[wanted]}, or change the variable's `type`"
    if not isinstance(value, Node):
        problems.general("wrong-type", summary, fix)
    elif sensitive:
        problems.general("wrong-type", summary, fix, at(value))
    else:
        problems.error(value, "wrong-type", summary, fix)


# --- types -----------------------------------------------------------------------------------------------------


def _typed(value: str | Node, wanted: str) -> Any:
    """The value as its type. Raises ValueError."""
    if isinstance(value, str):
        if not syntax.is_storable(value):
            raise ValueError(wanted)
        if wanted == "string":
            return value
        if wanted in ("list", "map"):
            value = _structure(value)
        else:
            return _of_type(resolve_plain(value.strip()), wanted)
    if wanted == "string":
        if value.text is None or value.data is None:
            raise ValueError(wanted)
        return value.text
    return _of_type(value.data, wanted)


def _of_type(data: Any, wanted: str) -> Any:
    right = {
        "number": isinstance(data, int | float) and not isinstance(data, bool),
        "bool": isinstance(data, bool),
        "list": isinstance(data, list),
        "map": isinstance(data, dict),
    }
    if not right[wanted]:
        raise ValueError(wanted)
    return data


def _structure(text: str) -> Node:
    """A list or mapping written on one line. Raises ValueError."""
    from reconciler.config.parser import parsed

    faults: list[object] = []
    source = Source("value", Path(), text)
    try:
        node = Composer(source, lambda *fault: faults.append(fault), parsed(text)).document()
    except (Garbled, Misspelt, Unreadable):
        raise ValueError(text) from None
    if node is None or faults:
        raise ValueError(text)
    return node
