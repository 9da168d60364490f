"""Groups: which addresses a sandbox of the YAML stands for, by `replicas` and `for_each`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.config.advice import likely
from reconciler.config.diagnostics import Problems, one_of, quote
from reconciler.config.interpolate import Expression, Interpolator, Scope, suggest
from reconciler.config.nodes import Node, new_mapping
from reconciler.config.schema import config_schema, validate
from reconciler.config.sections import Section
from reconciler.model.desired import Address

_KEY = re.compile(r"""[^\x00-\x1f\x7f"'\\\[\]{}|*?]{1,64}""")
_ADDRESS = r"""([A-Za-z0-9_-]+)(?:\[(?:([0-9]{1,9})|"([^"]*)"|'([^']*)')\])?"""


def parse_address(text: str) -> tuple[str, str] | None:
    """`db`, `db[0]` or `db["eu"]` as the name of a group and its index as in an address, "" without one."""
    match = re.fullmatch(_ADDRESS, text)
    if match is None:
        return None
    if match[0] == match[1]:
        return match[1], ""
    key = match[3] if match[3] is not None else match[4]
    return match[1], f"[{int(match[2])}]" if match[2] is not None else f'["{key}"]'


class Instance(Struct, frozen=True):
    """One address of a group and what `${each.…}` and `${replica.index}` mean for it."""

    address: Address
    each: tuple[Node, Node] | None = None
    replica: int | None = None


class Group(Struct):
    """A sandbox of the YAML. `certain` False when errors hide which addresses it has."""

    name: str
    key: Node
    block: Node
    instances: tuple[Instance, ...] = ()
    form: str = ""  # "", "replicas" or "for_each"
    certain: bool = True
    addresses: tuple[Address, ...] = ()
    known: frozenset[str] = field(default_factory=frozenset)


def make_group(name: str, key: Node, own: Node, block: Node, scope: Scope) -> Group:
    """The group with its addresses; problems are told. `own` is the block without template and defaults."""
    group = Group(name, key, block)
    replicas, for_each = block.get("replicas"), block.get("for_each")
    if for_each is not None:
        group.form = "for_each"
        _each(group, for_each, scope)
    elif replicas is not None:
        group.form = "replicas"
        count = _filled("replicas", replicas, scope)
        if count is None or not isinstance(count.data, int | float):
            group.certain = False
        else:
            group.instances = tuple(
                Instance(Address(f"{name}[{index}]"), replica=index) for index in range(int(count.data))
            )
    else:
        hidden = _hidden(own)
        group.certain = not hidden
        if "for_each" not in hidden:  # else nobody knows what `${each.key}` would be
            group.instances = (Instance(Address(name), replica=0 if hidden else None),)
    group.addresses = tuple(instance.address for instance in group.instances)
    group.known = frozenset(group.addresses)
    return group


def _hidden(own: Node) -> set[str]:
    """Which of `replicas` and `for_each` was meant, and taken out because it is wrong, or is not spelled so."""
    gone = [name for name in own.keys if own.get(name) is None]
    if not gone:
        return set()
    known = config_schema()["$defs"]["sandbox"]["properties"]
    meant = {name if name in known else likely(name, known) for name in gone}
    return meant & {"replicas", "for_each"}


def _filled(key: str, node: Node, scope: Scope) -> Node | None:
    """A value that decides about addresses, filled in and checked again; None when it is wrong."""
    fill = Interpolator(replace(scope, why_no_reference="not known before there are sandboxes"))
    filled = fill.fill(node)
    if fill.failed:
        return None
    if node.live:
        whole = new_mapping(node)
        whole.put(key, node, filled)
        if not validate(whole, scope.problems, definition="sandbox"):
            return None
    if filled.text is not None:  # an escaped `${`, which the schema takes for an interpolation
        number = (
            filled.data
            if isinstance(filled.data, int | float) and not isinstance(filled.data, bool)
            else None
        )
        if number is None or key == "for_each":
            what = "a whole number" if key == "replicas" else "a list or a mapping"
            scope.problems.error(node, "wrong-value", f"`{key}` must be {what}", f"write {what}")
            return None
    return filled


def _each(group: Group, node: Node, scope: Scope) -> None:
    filled = _filled("for_each", node, scope)
    if filled is None:
        group.certain = False
        return
    group.certain = not filled.damaged
    entries: list[tuple[str, Node, Node]] = []
    if filled.items is not None:
        entries = [(item.text or "", item, item) for item in filled.items]
    else:
        for key, kid in filled.named().items():
            entries.append((key, _key_node(key, filled.keys[key]), kid))
    seen: dict[str, Node] = {}
    instances = []
    for key, key_node, value in entries:
        if not _KEY.fullmatch(key):
            scope.problems.error(
                key_node, "bad-name", f"{quote(key)} cannot be a key of `for_each`",
                "use 1 to 64 characters without quotes, brackets, braces, `*`, `?`, `|` and backslashes",
            )  # fmt: skip
            group.certain = False
        elif key in seen:
            scope.problems.error(
                key_node, "twice", f"{quote(key)} is in `for_each` twice", "remove one of the two",
                (("first here", seen[key]),),
            )  # fmt: skip
        else:
            seen[key] = key_node
            instances.append(Instance(Address(f'{group.name}["{key}"]'), each=(key_node, value)))
    group.instances = tuple(instances)


def _key_node(key: str, like: Node) -> Node:
    node = Node(like.source, like.mark, like.end, key, key)
    node.live = False
    return node


class Directory:
    """Finds what names and references mean."""

    def __init__(self, groups: Mapping[str, Group], section: Section, problems: Problems) -> None:
        self._groups = groups
        self._section = section
        self._problems = problems

    def group(self, node: Node, name: str) -> Group | None:
        """The group of that name; None is told, unless it may be there."""
        group = self._groups.get(name)
        if group is None and self._section.lacks(name):
            self._problems.error(
                node, "unknown-sandbox", f"there is no sandbox {quote(name)}",
                suggest(name, self._groups, "declare it under `sandboxes`"),
            )  # fmt: skip
        return group

    def refer(self, node: Node, expression: Expression) -> Address | None:
        """The one address that `${sandbox.…}` means; None when that is a problem, told here or before."""
        group = self.group(node, expression.name)
        if group is None:
            return None
        return self._member(node, group, expression.index)

    def declared(self, name: str) -> Group | None:
        """The group of that name, if there is one; nothing is told."""
        return self._groups.get(name)

    def addresses(self, node: Node) -> tuple[Address, ...]:
        """What an entry of `depends_on` means: all of a group, or one address."""
        return self._addresses(node, node.text or "")

    def triggers(self, node: Node) -> tuple[Address, ...]:
        """What an entry of `replace_triggered_by` means: as in `depends_on`, with or without `sandbox.` before it."""
        return self._addresses(node, (node.text or "").removeprefix("sandbox."))

    def _addresses(self, node: Node, text: str) -> tuple[Address, ...]:
        found = self._parse(node, text)
        if found is None:
            return ()
        group, index = found
        if index is None:
            return group.addresses
        address = self._member(node, group, index)
        return () if address is None else (address,)

    def parse(self, node: Node, text: str) -> tuple[str, str] | None:
        """The name and the index in a text, whether or not it is declared; None is told."""
        found = parse_address(text)
        if found is None:
            self._problems.error(
                node, "address", f"{quote(text)} is not the name or address of a sandbox",
                'write a name such as `db`, or one address such as `db[0]` or `db["eu"]`',
            )  # fmt: skip
        return found

    def _parse(self, node: Node, text: str) -> tuple[Group, str | None] | None:
        """The group that a text names, and what of it; None is told."""
        found = self.parse(node, text)
        group = None if found is None else self.group(node, found[0])
        return None if found is None or group is None else (group, found[1] or None)

    def address(self, node: Node) -> Address | None:
        """The one address that a text such as `db` or `db[0]` means; None when that is a problem, told here or
        before."""
        found = self._parse(node, node.text or "")
        return None if found is None else self._member(node, *found)

    def _member(self, node: Node, group: Group, index: str | None) -> Address | None:
        address = Address(group.name + (index or ""))
        if address in group.known:
            return address
        if not group.certain:
            return None
        if not group.form:
            fix = f"write `{group.name}` without brackets"
            summary = f"{quote(group.name)} is one sandbox: it has neither `replicas` nor `for_each`"
        elif index is None:
            summary = f"{quote(group.name)} is a group with `{group.form}`, and a reference means one of it"
            fix = (
                f"write {one_of(group.addresses, 4)}"
                if group.addresses
                else f"`{group.name}` has no sandboxes now"
            )
        else:
            summary = f"there is no sandbox {quote(address)}"
            fix = (
                f"write {one_of(group.addresses, 4)}"
                if group.addresses
                else f"`{group.name}` has no sandboxes now"
            )
        self._problems.error(node, "unknown-sandbox", summary, fix)
        return None
