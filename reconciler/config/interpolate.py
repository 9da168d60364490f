"""Interpolation: `${var.x}`, `${env.X:-default}`, `${each.…}`, `${replica.index}`, `${stack}`, `${sandbox.…}`, `$${`.

A node goes in and a node with everything filled in comes out, at the same place. A value that is one interpolation
and nothing else keeps the type of what it names. There is no other expression language. A sensitive variable must
never become part of a node: it is answered only to the one caller that makes a `Secret` of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from msgspec import Struct

from reconciler.config.diagnostics import Problems, closest, one_of, quote
from reconciler.config.nodes import Node, from_data, new_mapping, spell
from reconciler.core import references
from reconciler.model.desired import Address

_TOKEN = re.compile(r"""\$\$\{|\$\{(env\.[^{}]*|(?:"[^"{}]*"|'[^'{}]*'|[^{}"'])*)\}|\$\{""")
_ENV = r"(?s)env\.([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?"
_SANDBOX = (
    r"""sandbox\.([A-Za-z0-9_-]+)(?:\[(?:([0-9]+)|"([^"]*)"|'([^']*)')\])?\.(url|id|ports\.[A-Za-z0-9-]+)"""
)
_FORMS = (
    "${var.x}, ${env.X}, ${env.X:-default}, ${each.key}, ${each.value}, ${replica.index}, ${stack}, "
    "${sandbox.NAME.url}"
)


class Expression(Struct, frozen=True):
    """One `${…}`: its kind (var, env, each, replica, stack, sandbox, bad), and what the kind needs."""

    kind: str
    raw: str
    name: str = ""
    rest: str | None = None  # the default of env, the field of each.value, the attribute of sandbox
    index: str | None = None  # `[0]` or `["eu"]` of sandbox, as in an address


@lru_cache(maxsize=4096)
def parse(text: str) -> tuple[str | Expression, ...]:
    """A scalar's text as literal parts and expressions."""
    parts: list[str | Expression] = []
    end = 0
    for token in _TOKEN.finditer(text):
        if token.start() > end:
            parts.append(text[end : token.start()])
        if token[0] == "$${":
            parts.append("${")
        elif token[1] is None:
            parts.append(Expression("unclosed", "${"))
        else:
            parts.append(_expression(token[1].strip()))
        end = token.end()
    if end < len(text):
        parts.append(text[end:])
    return tuple(parts)


def _expression(raw: str) -> Expression:
    head, _, rest = raw.partition(".")
    if raw == "stack":
        return Expression("stack", raw)
    if head == "var" and rest:
        return Expression("var", raw, rest)
    if raw == "replica.index":
        return Expression("replica", raw)
    if raw in ("each.key", "each.value"):
        return Expression("each", raw, rest)
    if raw.startswith("each.value.") and raw != "each.value.":
        return Expression("each", raw, "value", raw.removeprefix("each.value."))
    if match := re.fullmatch(_ENV, raw):
        return Expression("env", raw, match[1], match[2])
    if match := re.fullmatch(_SANDBOX, raw):
        index = match[2] if match[2] is not None else None
        key = match[3] if match[3] is not None else match[4]
        written = (
            f"[{int(index)}]"
            if index is not None and len(index) < 10
            else f'["{key}"]'
            if key is not None
            else None
        )
        return Expression("sandbox", raw, match[1], match[5], written)
    return Expression("bad", raw)


class Variable(Struct, frozen=True, kw_only=True):
    """A variable's value; `known` False when that was an error which has been told."""

    value: Any = None
    sensitive: bool = False
    known: bool = True

    def __repr__(self) -> str:
        return f"Variable(sensitive={self.sensitive}, known={self.known})"  # never the value


class Scope(Struct, frozen=True, kw_only=True):
    """What the names of expressions mean here. `each` and `replica` are None where there is no such thing;
    `refer` answers the address that `${sandbox.…}` means or has told the problem, None where it is not allowed.
    """

    stack: str | None
    variables: Mapping[str, Variable]
    environ: Mapping[str, str]
    problems: Problems
    each: tuple[Node, Node] | None = None
    replica: int | None = None
    refer: Callable[[Node, Expression], Address | None] | None = None
    why_no_reference: str = "only allowed in `environment`, `command` and `outputs`"


class Failed(Exception):
    """An expression has no value; the problem has been told."""


class Interpolator(Struct):
    """Fills in one block. `failed` turns True when any expression had no value."""

    scope: Scope
    failed: bool = False

    def fill(self, node: Node) -> Node:
        """The node with every expression replaced. Where that fails the part stays as it is, and `failed` is set."""
        if not node.live:
            return node
        if node.kids is not None:
            filled = new_mapping(node)
            for key, kid in node.kids.items():
                filled.put(key, node.keys[key], self.fill(kid))
            return filled
        if node.items is not None:
            items = [self.fill(item) for item in node.items]
            filled = Node(node.source, node.mark, node.end, [item.data for item in items])
            filled.items = items
            return filled
        try:
            return self._scalar(node)
        except Failed:
            self.failed = True
            return node

    def _scalar(self, node: Node) -> Node:
        parts = parse(node.text or "")
        if len(parts) == 1 and isinstance(parts[0], Expression):
            value = self._value(node, parts[0])
            return from_node(value, node) if isinstance(value, Node) else from_data(value, node)
        return from_data(self.text(node, parts), node)

    def text(self, node: Node, parts: Sequence[str | Expression], *, sensitive: bool = False) -> str:
        """The parts as one text. `sensitive` lets sensitive variables in. Raises Failed."""
        texts, failed = [], False
        for part in parts:
            try:
                texts.append(part if isinstance(part, str) else self._as_text(node, part, sensitive))
            except Failed:
                failed = True
        if failed:
            raise Failed
        return "".join(texts)

    def _as_text(self, node: Node, expression: Expression, sensitive: bool) -> str:
        value = self._value(node, expression, sensitive)
        if isinstance(value, Node):
            if value.text is None:
                raise self._told(
                    node, "wrong-type", f"`${{{expression.raw}}}` is not text and cannot be a part of one"
                )
            return value.text
        if isinstance(value, dict | list):
            kind = "a mapping" if isinstance(value, dict) else "a list"
            raise self._told(
                node, "wrong-type", f"`${{{expression.raw}}}` is {kind} and cannot be a part of a text"
            )
        return spell(value)

    def _value(self, node: Node, expression: Expression, sensitive: bool = False) -> Any:
        scope = self.scope
        match expression.kind:
            case "var":
                return self._variable(node, expression, sensitive)
            case "env":
                return self._environ(node, expression)
            case "each":
                return self._each(node, expression)
            case "replica":
                if scope.replica is None:
                    raise self._told(
                        node, "interpolation", "`${replica.index}` has no meaning here",
                        "it is for sandboxes with `replicas`; add `replicas: 1`, or use `${each.key}` with `for_each`",
                    )  # fmt: skip
                return scope.replica
            case "stack":
                if scope.stack is None:
                    raise self._told(node, "interpolation", "`${stack}` has no meaning here", "write it out")
                return scope.stack
            case "sandbox":
                if scope.refer is None:
                    raise self._told(
                        node, "reference", f"a reference to a sandbox is {scope.why_no_reference}",
                        "move it there, or write the value out",
                    )  # fmt: skip
                address = scope.refer(node, expression)
                if address is None:
                    raise Failed
                return references.mark(address, expression.rest or "")
        raise self._bad(node, expression)

    def _variable(self, node: Node, expression: Expression, sensitive: bool) -> Any:
        variable = self.scope.variables.get(expression.name)
        if variable is None:
            raise self._told(
                node, "unknown-variable", f"there is no variable {quote(expression.name)}",
                suggest(expression.name, self.scope.variables, "declare it under `variables`"),
            )  # fmt: skip
        if variable.sensitive and not sensitive:
            raise self._told(
                node, "sensitive-variable",
                f"{quote(expression.name)} is sensitive and may be used in `secrets.NAME.value` alone",
                f'write `secrets: {{NAME: {{value: "${{var.{expression.name}}}"}}}}`',
            )  # fmt: skip
        if not variable.known:
            raise Failed
        return variable.value

    def _environ(self, node: Node, expression: Expression) -> str:
        value = self.scope.environ.get(expression.name, "")
        if value or (expression.rest is None and expression.name in self.scope.environ):
            return value
        if expression.rest is None:
            raise self._told(
                node, "unset-environment", f"the environment variable {quote(expression.name)} is not set",
                f"set it, or give a default: `${{env.{expression.name}:-default}}`",
            )  # fmt: skip
        return expression.rest

    def _each(self, node: Node, expression: Expression) -> Node:
        if self.scope.each is None:
            raise self._told(
                node, "interpolation", f"`${{{expression.raw}}}` has no meaning here",
                "it is for sandboxes with `for_each`; with `replicas` there is `${replica.index}`",
            )  # fmt: skip
        key, value = self.scope.each
        if expression.name == "key":
            return key
        for step in (expression.rest or "").split(".") if expression.rest else ():
            kid = value.get(step)
            if kid is None:
                raise self._told(
                    node, "interpolation", f"`${{{expression.raw}}}`: the entry {quote(key.text or '')} has no `{step}`",
                    suggest(step, value.named(), f"add `{step}` to the entry of `for_each`"),
                )  # fmt: skip
            value = kid
        return value

    def _bad(self, node: Node, expression: Expression) -> Failed:
        if expression.kind == "unclosed":
            return self._told(
                node, "interpolation", "`${` is not closed, or there is another `${` or brace inside",
                "write `${…}` without another inside, or `$${` for the two characters themselves",
            )  # fmt: skip
        if expression.raw.startswith("sandbox."):
            return self._told(
                node, "interpolation", f"`${{{expression.raw}}}` is not a reference to a sandbox",
                'write ${sandbox.NAME.url}, .id or .ports.PORT; NAME may be db, db[0] or db["key"]',
            )  # fmt: skip
        return self._told(
            node, "interpolation", f"`${{{expression.raw[:60]}}}` is not an interpolation",
            f"use one of {_FORMS}; write `$${{` for the two characters themselves",
        )  # fmt: skip

    def _told(self, node: Node, code: str, summary: str, fix: str = "") -> Failed:
        self.scope.problems.error(node, code, summary, fix)
        return Failed()


def from_node(value: Node, like: Node) -> Node:
    """A value from elsewhere in the file, standing where `like` stands and spelled as it was written."""
    if value.text is None:
        return from_data(value.data, like)
    node = Node(like.source, like.mark, like.end, value.data, value.text)
    node.live = False
    return node


def suggest(word: str, choices: Mapping[str, object] | Sequence[str], otherwise: str) -> str:
    """A fix for a name that is not there."""
    meant = closest(word, choices)
    if meant:
        return f"did you mean {quote(meant)}?"
    return f"choose one of {one_of(sorted(choices))}, or {otherwise}" if choices else otherwise


def kinds_in(node: Node) -> frozenset[str]:
    """The kinds of expressions anywhere in a node: what it depends on."""
    if not node.live:
        return frozenset()
    if node.text is not None:
        return frozenset(part.kind for part in parse(node.text) if isinstance(part, Expression))
    kids = node.items if node.items is not None else list((node.kids or {}).values())
    return frozenset().union(*(kinds_in(kid) for kid in kids))
