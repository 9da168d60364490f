"""Finds what may be a secret in a file, so that no snippet and no message shows it. Masks too much rather than too
little: what stands where a secret belongs is one, whatever its shape."""

from __future__ import annotations

import re

from reconciler.config import syntax
from reconciler.config.nodes import Node, Source

_REFERENCES = frozenset({"env", "file", "command", "as"})  # what names a secret without being one
_WHOLE_INTERPOLATION = r"\s*\$\{[^}]*\}\s*"
_SUSPECT = r"(?:value|secret|token|passw|credential|key|auth|api[_-])"  # what keys of secrets are called
_SUSPECT_KEY = f"(?i){_SUSPECT}"
_SUSPECT_LINE = rf"""(?i){_SUSPECT}[\w-]*["']?\s*:"""


def mask_secrets(root: Node) -> None:
    """Mark the nodes that hold secrets in clear and hide them from their file's snippets."""
    for section in ("sandboxes", "templates"):
        for block in _kids(root.get(section)):
            _mask_secrets_of(block)
    defaults = root.get("defaults")
    if defaults is not None:
        _mask_secrets_of(defaults)
    for variable in _kids(root.get("variables")):
        sensitive, default = variable.get("sensitive"), variable.get("default")
        if default is not None and sensitive is not None and sensitive.data is not False:
            _hide(default, set())
    for section in ("backends", "state"):
        node = root.get(section)
        if node is not None:
            _mask_credentials(node, set())


def mask_suspects(source: Source) -> None:
    """For a file that could not be read to its end: hide what follows any key that sounds like a secret."""
    deeper_than: int | None = None
    for number, line in enumerate(syntax.lines(source.text)):
        indent = len(line) - len(line.lstrip())
        if deeper_than is not None and (indent > deeper_than or not line.strip()):
            source.mask(number, 0, None)
            continue
        match = re.search(_SUSPECT_LINE, line)
        deeper_than = indent if match else None
        if match:
            source.mask(number, match.end(), None)


def _kids(node: Node | None) -> list[Node]:
    return [] if node is None else list(node.named().values())


def _mask_secrets_of(block: Node) -> None:
    secrets = block.get("secrets")
    if secrets is None:
        return
    seen: set[int] = set()
    if secrets.kids is None:
        _hide(secrets, seen)
    for entry in _kids(secrets):
        if entry.kids is None:
            _hide(entry, seen)
        for key, kid in entry.named().items():
            if key not in _REFERENCES:
                _hide(kid, seen)


def _mask_credentials(node: Node, seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    for key, kid in node.named().items():
        is_url = kid.text is not None and "://" in kid.text and "@" in kid.text
        if is_url or (
            kid.text is not None and re.search(_SUSPECT_KEY, key) and not key.endswith(("_path", "_file"))
        ):
            _hide(kid, seen)
        else:
            _mask_credentials(kid, seen)
    for item in node.listed():
        _mask_credentials(item, seen)


def _hide(node: Node, seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    if node.text is not None and not re.fullmatch(_WHOLE_INTERPOLATION, node.text):
        node.secret = True
        for line in range(node.mark.line, node.end.line + 1):
            first, last = line == node.mark.line, line == node.end.line
            node.source.mask(line, node.mark.column if first else 0, node.end.column if last else None)
    for kid in _kids(node):
        _hide(kid, seen)
    for item in node.listed():
        _hide(item, seen)
