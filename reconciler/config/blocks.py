"""Blocks of sandboxes before anything is filled in: templates and defaults laid under each other.

Mappings merge, lists and single values replace; the sandbox wins over its template, which wins over `defaults`.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.config.diagnostics import Problems, quote
from reconciler.config.interpolate import suggest
from reconciler.config.nodes import Node, new_mapping
from reconciler.config.sections import Section

_PROBES = ("http", "tcp", "exec")
_OF_ANY_PROBE = ("successes", "interval", "timeout")
_NOT_INHERITED = frozenset({"template"})


def overlay(base: Node, over: Node, key: str = "") -> Node:
    """`over` laid on `base`. Where two keys exclude each other, choosing one above drops the other below."""
    if base.kids is None or over.kids is None:
        return over
    merged = new_mapping(over)
    merged.damaged = base.damaged or over.damaged
    for name, kid in base.kids.items():
        if not _excluded(key, name, over):
            merged.put(name, base.keys[name], kid)
    for name, kid in over.kids.items():
        below = merged.kids.get(name) if merged.kids and key != "secrets" else None
        merged.put(name, over.keys[name], kid if below is None else overlay(below, kid, name))
    return merged


def _excluded(key: str, name: str, over: Node) -> bool:
    """Whether a key from below makes no sense under what is said above."""
    said = over.kids or {}
    if key == "readiness" and any(probe in said for probe in _PROBES):
        return name not in _OF_ANY_PROBE
    if key == "network":
        return _excluded_network(name, said)
    return False


def _excluded_network(name: str, said: Mapping[str, Node]) -> bool:
    """A named network is an open one; an allow list belongs to the mode it was said with."""
    if name == "name":
        return "mode" in said and said["mode"].text != "open"
    return ("mode" in said and name == "allow") or "name" in said


class Blocks:
    """The templates and defaults of a document, resolved once each."""

    def __init__(self, templates: Section, defaults: Node | None, problems: Problems) -> None:
        self._problems = problems
        self._defaults = defaults
        self._section = templates
        self._templates = templates.entries
        self._resolved: dict[str, Node | None] = {}
        self._chain: list[str] = []
        for name, node in self._templates.items():
            self._template(name, node)

    def block(self, own: Node) -> Node:
        """A sandbox's block with its template and the defaults below it."""
        base = self._base(own)
        return own if base is None else overlay(base, own)

    def _base(self, own: Node) -> Node | None:
        wanted = own.get("template")
        if wanted is None:
            return self._defaults
        return self._template(wanted.text or "", wanted) or self._defaults

    def _template(self, name: str, asked_at: Node) -> Node | None:
        """A template over its own template over the defaults; None when there is a problem, which is told."""
        if name in self._resolved:
            return self._resolved[name]
        node = self._templates.get(name)
        if node is None:
            if self._section.lacks(name):
                self._problems.error(
                    asked_at, "unknown-template", f"there is no template {quote(name)}",
                    suggest(name, self._templates, "declare it under `templates`"),
                )  # fmt: skip
            return None
        if name in self._chain:
            cycle = [*self._chain[self._chain.index(name) :], name]
            self._problems.error(
                asked_at, "template-cycle", f"templates use each other in a circle: {' → '.join(cycle)}",
                "remove `template:` from one of them",
            )  # fmt: skip
            return None
        self._chain.append(name)
        below = self._base(node)
        self._chain.pop()
        merged = node if below is None else overlay(below, node)
        self._resolved[name] = _without_template(merged)
        return self._resolved[name]


def _without_template(node: Node) -> Node:
    if not any(name in node.named() for name in _NOT_INHERITED):
        return node
    kept = new_mapping(node)
    for name, kid in node.named().items():
        if name not in _NOT_INHERITED:
            kept.put(name, node.keys[name], kid)
    return kept
