"""Files to one `Document`: found, read, composed, merged in name order.

Must never read more than `MAX_BYTES` of a file, and never raise anything but ConfigError for what a file holds.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from reconciler.config import events, syntax
from reconciler.config.collector import collector_at_rest
from reconciler.config.diagnostics import Problems, quote
from reconciler.config.events import Garbled, Misspelt, Place
from reconciler.config.masking import mask_secrets, mask_suspects
from reconciler.config.nodes import Composer, Mark, Node, Source, Unreadable, new_mapping
from reconciler.config.origins import find_blocks
from reconciler.config.readings import Readings, recorded
from reconciler.model.position import Block
from reconciler.model.sha256 import sha256

DEFAULT_FILE = "sandboxes.yaml"
MAX_BYTES = 10 * 1024 * 1024
MOST_KEPT = 8  # files of one configuration
NAMED_SECTIONS = ("variables", "backends", "templates", "sandboxes", "outputs", "defaults")
LISTED_SECTIONS = ("moved", "removed", "imports")


class Document(Struct, frozen=True, kw_only=True):
    """The merged configuration. `complete` is False when a file could not be read, so that what is missing may
    stand there. `digest` is over the bytes of all files. `blocks` are the places of templates and defaults."""

    root: Node
    sources: tuple[Source, ...]
    directory: Path
    digest: str
    complete: bool
    blocks: tuple[Block, ...] = ()


def load(paths: Sequence[Path], directory: Path) -> Document:
    """Read the configuration. Without `paths`: `sandboxes.yaml` in `directory`, else all of its YAML files.

    Raises ConfigError with every problem of every file.
    """
    problems = Problems()
    document = read(paths, directory, problems)
    problems.raise_if_any()
    assert document is not None
    return document


def read(
    paths: Sequence[Path], directory: Path, problems: Problems, readings: Readings | None = None
) -> Document | None:
    """As `load`, but tells `problems` and returns what could be read; None when that is nothing."""
    directory = Path(os.path.abspath(directory))
    files = list(dict.fromkeys(find(paths, directory, problems)))
    if len(files) > MOST_KEPT:
        readings = None  # they would drive each other out
    digest = sha256()
    roots: list[Node] = []
    sources: list[Source] = []
    for path in files:
        name = _display(path, directory)
        content = _read_bytes(path, name, problems)
        if content is None:
            continue
        digest.update(f"{name}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        digest.update(content)
        source = _decode(content, name, path, problems)
        if source is None:
            continue
        sources.append(source)
        root = compose(source, problems, readings)
        if root is not None:
            roots.append(root)
    problems.file_order([source.name for source in sources])
    if not roots:
        return None
    return Document(
        root=roots[0] if len(roots) == 1 else _merge(roots, problems),
        sources=tuple(sources),
        directory=files[0].parent,
        digest=digest.hexdigest(),
        complete=len(roots) == len(files),
        blocks=tuple(block for root in roots for block in find_blocks(root)),
    )


def read_one(path: Path, directory: Path, problems: Problems) -> Node | None:
    """The mapping of a file of variables. Which of them are secrets is not known here, so none of its lines is
    shown."""
    path = Path(os.path.normpath(directory / path))
    name = _display(path, directory)
    content = _read_bytes(path, name, problems)
    source = None if content is None else _decode(content, name, path, problems)
    if source is None:
        return None
    source.opaque = True
    return compose(source, problems)


# --- finding and reading ---------------------------------------------------------------------------------------


def find(paths: Sequence[Path], directory: Path, problems: Problems) -> Iterator[Path]:
    """The files that a configuration is read from, in the order they are merged; they need not be there."""
    for path in paths:
        where = Path(os.path.normpath(directory / path))
        if where.is_dir():
            yield from _listing(where, _display(where, directory), problems)
        else:
            yield where
    if not paths:
        default = directory / DEFAULT_FILE
        if default.is_file():
            yield default
        else:
            yield from _listing(directory, str(directory), problems)


def _listing(folder: Path, name: str, problems: Problems) -> list[Path]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if entry.suffix in (".yaml", ".yml"))
        found = [entry for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    except OSError as error:
        problems.general(
            "unreadable", f"the directory {name} cannot be read: {_reason(error)}", "choose another with -C"
        )
        return []
    if not found:
        problems.general(
            "no-files",
            f"there is no {DEFAULT_FILE} and no other *.yaml or *.yml file in {name}",
            "run `reconciler init`, or name a file with -f or a directory with -C",
        )
    return found


def _display(path: Path, directory: Path) -> str:
    return (
        str(path.relative_to(directory))
        if path.is_relative_to(directory) and path != directory
        else str(path)
    )


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _read_bytes(path: Path, name: str, problems: Problems) -> bytes | None:
    try:
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
            problems.general("unreadable", f"{name} is not a file", "name a YAML file or a directory with -f")
            return None
        content = b""
        if status.st_size <= MAX_BYTES:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        problems.general(
            "missing-file",
            f"there is no file {name}",
            "check the path given with -f, or run `reconciler init`",
        )
        return None
    except OSError as error:
        problems.general(
            "unreadable",
            f"{name} cannot be read: {_reason(error)}",
            "check its permissions and the path given with -f",
        )
        return None
    except ValueError:
        problems.general("unreadable", "a path holds a NUL character", "check the path given with -f")
        return None
    if status.st_size > MAX_BYTES or len(content) > MAX_BYTES:
        problems.general(
            "too-large",
            f"{name} is larger than {MAX_BYTES // 2**20} MiB",
            "use `replicas`, `for_each` and `templates` instead of repeated text, or split the file",
        )
        return None
    return content


def _decode(content: bytes, name: str, path: Path, problems: Problems) -> Source | None:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        problems.general("encoding", f"{name} is saved as UTF-16", "save it as UTF-8")
        return None
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        source = Source(name, path, content.decode("utf-8", "replace"))
        mark = _place(before, len(before))
        mask_suspects(source)
        problems.fault(source, mark, mark, "encoding", "this is not UTF-8 text", "save the file as UTF-8")
        return None
    return Source(name, path, text)


def _place(text: str, index: int) -> Mark:
    line, last = 0, 0
    for found in re.compile(syntax.LINE_BREAK).finditer(text, 0, index):
        line, last = line + 1, found.end()
    return Place(line, index - last)


# --- composing one file ----------------------------------------------------------------------------------------


def compose(source: Source, problems: Problems, readings: Readings | None = None) -> Node | None:
    """The file's mapping, None when it has none; problems are told, with secrets hidden first. `readings` know what was
    read before, and keep what is in order and holds no secret."""
    faults: list[tuple[Any, ...]] = []
    known = None if readings is None else readings.find(source.text)
    told: list[events.Event] = []
    root: Node | None = None
    whole = False
    try:
        with collector_at_rest():
            following = iter(known) if known is not None else _parsed(source.text, told)
            root = Composer(source, lambda *fault: faults.append(fault), following).document()
        whole = True
    except Unreadable:
        pass
    except Garbled:
        faults.append(_fault_of_character(source))
    except Misspelt as error:
        faults.append(_fault_of_syntax(source, error))
    if faults:
        mask_suspects(source)  # what could not be read, or was read twice, is in no node
    if whole and root is not None:
        mask_secrets(root)
    for fault in faults:
        problems.fault(*fault)
    if readings is not None and known is None and whole and not faults and not source.masked:
        readings.keep(source.text, told)
    return _top_level(source, root, problems) if whole else None


def _parsed(text: str, into: list[events.Event]) -> Iterator[events.Event]:
    from reconciler.config.parser import parsed  # what was read before needs none

    return recorded(parsed(text), into)


def _top_level(source: Source, root: Node | None, problems: Problems) -> Node | None:
    if root is None or (root.text is not None and root.data is None):
        start = Place(0, 0)
        problems.fault(
            source, start, start, "empty", f"{source.name} holds no configuration",
            "write `version: 1` and `stack: NAME`, or run `reconciler init`",
        )  # fmt: skip
        return None
    if root.kids is None:
        found = "a list" if root.items is not None else "plain text"
        problems.fault(
            source, root.mark, root.mark, "top-level", f"the file must be a mapping of keys, not {found}",
            "begin with `version: 1`, `stack: NAME` and `sandboxes:`",
        )  # fmt: skip
        return None
    return root


def _fault_of_character(source: Source) -> tuple[Any, ...]:
    found = re.search(syntax.CONTROL, source.text)
    mark = _place(source.text, found.start() if found else 0)
    name = f"U+{ord(found[0]):04X}" if found else "unknown"
    return (
        source, mark, mark, "control-character", f"a control character ({name}) is not allowed in YAML",
        'remove it; in double-quoted text write it as an escape such as "\\x1b"',
    )  # fmt: skip


def _fault_of_syntax(source: Source, error: Misspelt) -> tuple[Any, ...]:
    mark = error.problem_mark or error.context_mark or Place(0, 0)
    if error.context_mark is not None and _shows_where_it_began(error.context, error.problem):
        mark = error.context_mark
    line = source.line(mark.line)
    character = line[mark.column : mark.column + 1]
    if mark.column and line[mark.column - 1 : mark.column + 1] == "${":
        mark = Place(mark.line, mark.column - 1)
        character = "${"
    summary, fix = syntax.explain(error.context, error.problem, character)
    related: tuple[tuple[str, Node], ...] = ()
    opened = error.context_mark
    if opened is not None and opened.line != mark.line:
        related = (("it begins here", Node(source, opened, opened, None)),)
    return (source, mark, mark, "syntax", summary, fix, related)


def _shows_where_it_began(context: str, problem: str) -> bool:
    """A line without a colon is noticed on the one after it, and a quote that is never closed at the end of the file."""
    return "simple key" in context or ("quoted scalar" in context and "escape" not in problem)


# --- merging files ---------------------------------------------------------------------------------------------


def _merge(roots: Sequence[Node], problems: Problems) -> Node:
    """One mapping of all files: sections by name, lists one after the other, anything else said once."""
    merged = new_mapping(roots[0])
    for root in roots:
        for key, kid in root.named().items():
            at_key = root.keys[key]
            first = merged.get(key)
            if first is None:
                merged.put(key, at_key, _begun(key, kid))
            elif key in NAMED_SECTIONS and first.kids is not None and kid.kids is not None:
                _add_section(key, first, kid, problems)
                merged.put(key, merged.keys[key], first)
            elif key in LISTED_SECTIONS and first.items is not None and kid.items is not None:
                _append(first, kid)
                merged.put(key, merged.keys[key], first)
            elif not key.startswith("x-") and first.data != kid.data:
                _twice(f"`{key}`", at_key, merged.keys[key], problems, "say it in one file only")
    return merged


def _begun(section: str, first: Node) -> Node:
    """What the sections of further files are added to: a copy, once, so that many files cost as much as one that says all."""
    if section in NAMED_SECTIONS and first.kids is not None:
        begun = new_mapping(first)
        for name, kid in first.named().items():
            begun.put(name, first.keys[name], kid)
        return begun
    if section in LISTED_SECTIONS and first.items is not None:
        begun = Node(first.source, first.mark, first.end, list(first.data))
        begun.items, begun.live, begun.damaged = list(first.items), first.live, first.damaged
        return begun
    return first


def _add_section(section: str, first: Node, second: Node, problems: Problems) -> None:
    for name, kid in second.named().items():
        if name not in first.named():
            first.put(name, second.keys[name], kid)
        elif section != "defaults" or first.named()[name].data != kid.data:
            what = (
                f"`defaults.{name}`" if section == "defaults" else f"the {_SINGULAR[section]} {quote(name)}"
            )
            _twice(what, second.keys[name], first.keys[name], problems, "remove or rename one of the two")


_SINGULAR = {
    "variables": "variable", "backends": "backend", "templates": "template", "sandboxes": "sandbox",
    "outputs": "output",
}  # fmt: skip


def _twice(what: str, second: Node, first: Node, problems: Problems, fix: str) -> None:
    problems.error(
        second, "declared-twice", f"{what} is declared in two files", fix, (("first declared here", first),)
    )


def _append(first: Node, second: Node) -> None:
    assert first.items is not None
    first.data.extend(second.data)
    first.items.extend(second.listed())
    first.live = first.live or second.live
