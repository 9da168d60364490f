"""From a group to its `DesiredSandbox`es. What does not depend on the replica is built once and shared by all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.config.diagnostics import Problems, at, one_of, quote
from reconciler.config.fields import FIELDS
from reconciler.config.groups import Directory, Group, Instance
from reconciler.config.interpolate import Expression, Interpolator, Scope, kinds_in, suggest
from reconciler.config.nodes import Node, new_mapping
from reconciler.config.schema import validate
from reconciler.config.secrets import build_secrets
from reconciler.config.sections import Section
from reconciler.config.values import Built, Surroundings, Wrong
from reconciler.model.desired import Address, BackendConfig, DesiredSandbox, Lifecycle, SandboxSpec
from reconciler.model.lifecycle import DriftPolicy, Rollout
from reconciler.model.position import Position

_WITH_REFERENCES = frozenset({"environment", "command"})
_OF_THE_INSTANCE = frozenset({"each", "replica"})
_TEXT_ONLY = frozenset({"environment", "labels"})  # any filled-in text is valid there
_KEYED_BY_VALUE = frozenset(
    {"ports", "mounts"}
)  # their paths hold values, so their places differ by instance
_RULES = frozenset({"lifecycle", "rollout", "drift"})  # about the sandbox, and no part of its spec
_NO_LIFECYCLE = Lifecycle()
_ORDER = ("ports", *(name for name in FIELDS if name not in ("ports", "readiness")), "secrets", "readiness")


class PortReference(Struct, frozen=True):
    """A `${sandbox.ADDRESS.ports.NAME}`, to be checked when all ports are known."""

    node: Node
    address: Address
    port: str


class _Part(Struct):
    """The outcome of one key: its fields, the addresses referred to, whether it went wrong."""

    built: Built = field(default_factory=lambda: Built({}))
    references: tuple[Address, ...] = ()
    failed: bool = False


class Builder:
    """Builds the sandboxes of all groups. `port_references` are collected on the way."""

    def __init__(
        self,
        scope: Scope,
        directory: Directory,
        backends: Mapping[str, BackendConfig],
        backend_section: Section,
    ) -> None:
        self._scope = scope
        self._problems: Problems = scope.problems
        self._directory = directory
        self._backends = backends
        self._backend_section = backend_section
        self._shared: dict[tuple[str, int], tuple[Node, _Part]] = {}
        self._referring: dict[int, tuple[Node, bool]] = {}
        self._last: tuple[tuple[Address, ...], frozenset[Address]] | None = None
        self._triggered = _Triggered()
        self._asks_places = True  # of the first instance alone, unless they differ
        self.port_references: list[PortReference] = []

    def build(self, group: Group) -> list[DesiredSandbox]:
        """The group's sandboxes; fewer when there is a problem, which is told."""
        block = group.block.named()
        self._asks_places = True
        self._check_names(block)
        self._check_backend_said(group)
        own = [name for name in _ORDER if name in block and kinds_in(block[name]) & _OF_THE_INSTANCE]
        if "ports" in own and "readiness" in block and "readiness" not in own:
            own.append("readiness")
        common = _Assembly(damaged=group.block.damaged, failed=group.block.damaged)
        if not group.instances:
            return []
        first = self._interpolator(group.instances[0])
        for name in _ORDER:
            if name in block and name not in own:
                common.add(name, self._part(name, block[name], first, common.ports))
        return self._instances(group, own, common)

    def _instances(self, group: Group, own: Sequence[str], common: _Assembly) -> list[DesiredSandbox]:
        block = group.block.named()
        position = at(group.key)
        shared = None if own or common.failed else SandboxSpec(**common.values)
        where: dict[str, Position] | None = None
        placement = self._placement(block)
        sandboxes: list[DesiredSandbox] = []
        for instance in group.instances:
            assembly = common
            self._asks_places = where is None or not _KEYED_BY_VALUE.isdisjoint(own)
            if own:
                assembly = common.copy()
                scope = self._interpolator(instance)
                for name in own:
                    assembly.add(name, self._part(name, block[name], scope, assembly.ports))
            backend, depends_on = placement(instance)
            if backend is None or assembly.failed or group.block.damaged:
                return sandboxes  # told once; the other instances have the same problem
            depends_on = self._triggered.after(depends_on, assembly.lifecycle.replace_triggered_by)
            if instance.address in self._triggered.known:
                self._tell_own_trigger(group, instance)
                return sandboxes
            if where is None or self._asks_places:
                where = self._places(assembly, block)
            sandboxes.append(
                DesiredSandbox(
                    address=instance.address,
                    group=group.name,
                    backend=backend,
                    spec=shared or SandboxSpec(**assembly.values),
                    position=position,
                    where=where,
                    depends_on=self._united(depends_on, assembly.references),
                    references=assembly.references,
                    lifecycle=assembly.lifecycle,
                    rollout=assembly.rollout,
                    drift=assembly.drift,
                )
            )
        return sandboxes

    def _interpolator(self, instance: Instance) -> Interpolator:
        return Interpolator(replace(self._scope, each=instance.each, replica=instance.replica))

    # --- one key ---

    def _part(self, name: str, node: Node, fill: Interpolator, ports: tuple[Any, ...] | None) -> _Part:
        """One key's fields. A block that stands still is built once, however many sandboxes have it."""
        still = not node.live and name != "readiness"
        if still and (name, id(node)) in self._shared:
            return self._shared[name, id(node)][1]
        part = self._fresh_part(name, node, Interpolator(fill.scope), ports)
        if still:
            self._shared[name, id(node)] = (node, part)  # the node is kept so that its id stays its own
        return part

    def _fresh_part(self, name: str, node: Node, fill: Interpolator, ports: tuple[Any, ...] | None) -> _Part:
        part = _Part()

        def tell(wrong: Wrong) -> None:
            self._problems.error(wrong.node, wrong.code, wrong.summary, wrong.fix, wrong.related)
            part.failed = True

        around = Surroundings(
            environ=self._scope.environ,
            tell=tell,
            triggers=self._directory.triggers,
            ports=ports,
            places=self._asks_places,
        )
        found: dict[Address, None] = {}
        if name in _WITH_REFERENCES and self._refers(node):
            fill.scope = replace(fill.scope, refer=self._collector(found))
        try:
            if name == "secrets":
                part.built = build_secrets(node, fill, around)
            else:
                filled = fill.fill(node)
                if not fill.failed and self._valid(name, node, filled):
                    part.built = FIELDS[name](filled, around)
                else:
                    part.failed = True
        except Wrong as wrong:
            tell(wrong)
        part.failed = part.failed or fill.failed
        part.references = tuple(found)
        return part

    def _refers(self, node: Node) -> bool:
        """Whether there is a reference to a sandbox in it, looked for once for all instances."""
        if id(node) not in self._referring:
            self._referring[id(node)] = node, "sandbox" in kinds_in(node)
        return self._referring[id(node)][1]

    def _valid(self, name: str, node: Node, filled: Node) -> bool:
        """Whether what was filled in has the right type: the schema saw only `${…}` there."""
        if not node.live or (name in _TEXT_ONLY and filled.kids is not None):
            return True
        block = new_mapping(node)
        block.put(name, node, filled)
        return validate(block, self._problems, definition="sandbox")

    def _collector(self, found: dict[Address, None]) -> Any:
        def refer(node: Node, expression: Expression) -> Address | None:
            address = self._directory.refer(node, expression)
            if address is not None:
                found[address] = None
                if expression.rest is not None and expression.rest.startswith("ports."):
                    port = expression.rest.removeprefix("ports.")
                    self.port_references.append(PortReference(node, address, port))
            return address

        return refer

    def _check_names(self, block: Mapping[str, Node]) -> None:
        environment, secrets = block.get("environment"), block.get("secrets")
        if environment is None or secrets is None:
            return
        for name in secrets.named():
            if name in environment.named():
                self._problems.error(
                    secrets.keys[name], "twice", f"{quote(name)} is in `secrets` and in `environment`",
                    "remove it from `environment`", (("also here", environment.keys[name]),),
                )  # fmt: skip

    # --- where it goes and what it waits for ---

    def _placement(self, block: Mapping[str, Node]) -> Any:
        """(instance) → (backend's name or None, addresses waited for), worked out once where it can be."""
        backend, depends_on = block.get("backend"), block.get("depends_on")
        nodes = [node for node in (backend, depends_on) if node is not None]
        moving = any(kinds_in(node) & _OF_THE_INSTANCE for node in nodes)
        known: list[tuple[str | None, tuple[Address, ...]]] = []

        def place(instance: Instance) -> tuple[str | None, tuple[Address, ...]]:
            if moving or not known:
                known[:] = [self._place(backend, depends_on, self._interpolator(instance))]
            return known[0]

        return place

    def _place(
        self, backend: Node | None, depends_on: Node | None, fill: Interpolator
    ) -> tuple[str | None, tuple[Address, ...]]:
        name = self._backend(backend, fill)
        addresses: dict[Address, None] = {}
        if depends_on is not None:
            inner = Interpolator(fill.scope)
            filled = inner.fill(depends_on)
            if inner.failed or not self._valid("depends_on", depends_on, filled):
                return None, ()
            for item in filled.listed():
                addresses.update(dict.fromkeys(self._directory.addresses(item)))
        return name, tuple(addresses)

    def _backend(self, node: Node | None, fill: Interpolator) -> str | None:
        if node is None:
            return next(iter(self._backends)) if len(self._backends) == 1 else None
        filled = fill.fill(node)
        if fill.failed or not self._valid("backend", node, filled):
            return None
        name = filled.text or ""
        if name in self._backends:
            return name
        if self._backend_section.lacks(name):
            self._problems.error(
                node, "unknown-backend", f"there is no backend {quote(name)}",
                suggest(name, self._backends, "declare it under `backends`"),
            )  # fmt: skip
        return None

    def _check_backend_said(self, group: Group) -> None:
        """With several backends each sandbox must say which."""
        section = self._backend_section
        sure = section.certain and len(section.mentioned) > 1 and not group.block.damaged
        if sure and group.block.get("backend") is None:
            self._problems.error(
                group.key, "no-backend", f"{quote(group.name)} does not say on which backend it lives",
                f"add `backend:` here or under `defaults`: {one_of(section.entries)}",
            )  # fmt: skip

    def _tell_own_trigger(self, group: Group, instance: Instance) -> None:
        """The entries are looked at again for the one that means the sandbox itself, which is rare."""
        node = group.block.named()["lifecycle"].named()["replace_triggered_by"]
        for entry in self._interpolator(instance).fill(node).listed():
            if instance.address in self._directory.triggers(entry):
                self._problems.error(
                    entry, "own-trigger", f"{quote(instance.address)} cannot be replaced because of itself",
                    "name another sandbox; a list from a template or the defaults gives way to one of the sandbox's own",
                )  # fmt: skip

    def _united(
        self, depends_on: tuple[Address, ...], references: tuple[Address, ...]
    ) -> tuple[Address, ...]:
        """All that must be there first. The same tuple for all replicas where nothing is added."""
        if not references:
            return depends_on
        if self._last is None or self._last[0] is not depends_on:
            self._last = (depends_on, frozenset(depends_on))
        missing = tuple(address for address in references if address not in self._last[1])
        return depends_on + missing if missing else depends_on

    def _places(self, assembly: _Assembly, block: Mapping[str, Node]) -> dict[str, Position]:
        places: dict[str, Position] = {}
        for built in assembly.parts.values():
            places.update(built.where)
        for name in ("backend", "depends_on", "replicas", "for_each"):
            if name in block:
                places[name] = at(block[name])
        return places


class _Triggered(Struct):
    """Waiting for triggers too. Replicas share what they wait for, so the last answer is kept. `known` are the triggers
    asked about last."""

    depends_on: tuple[Address, ...] = ()
    triggers: tuple[Address, ...] = ()
    known: frozenset[Address] = frozenset()
    both: tuple[Address, ...] = ()

    def after(self, depends_on: tuple[Address, ...], triggers: tuple[Address, ...]) -> tuple[Address, ...]:
        """All of `depends_on` and of `triggers`; the same tuple for the same two."""
        if triggers is not self.triggers or depends_on is not self.depends_on:
            self.depends_on, self.triggers, self.known = depends_on, triggers, frozenset(triggers)
            missing = self.known.difference(depends_on)
            extra = tuple(address for address in triggers if address in missing)
            self.both = depends_on + extra if extra else depends_on
        return self.both


class _Assembly(Struct):
    """The parts of one sandbox so far."""

    parts: dict[str, Built] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)  # what goes into the spec
    refers: dict[str, tuple[Address, ...]] = field(default_factory=dict)
    failed: bool = False
    damaged: bool = False

    def add(self, name: str, part: _Part) -> None:
        self.parts[name] = part.built
        if name not in _RULES:
            self.values.update(part.built.values)
        if part.references:
            self.refers[name] = part.references
        self.failed = self.failed or part.failed

    def copy(self) -> _Assembly:
        return _Assembly(dict(self.parts), dict(self.values), dict(self.refers), self.failed, self.damaged)

    @property
    def lifecycle(self) -> Lifecycle:
        built = self.parts.get("lifecycle")
        return _NO_LIFECYCLE if built is None else built.values.get("lifecycle", _NO_LIFECYCLE)

    @property
    def rollout(self) -> Rollout | None:
        built = self.parts.get("rollout")
        return None if built is None else built.values.get("rollout")

    @property
    def drift(self) -> DriftPolicy:
        built = self.parts.get("drift")
        return DriftPolicy.CORRECT if built is None else built.values["drift"]

    @property
    def ports(self) -> tuple[Any, ...] | None:
        """The ports as built; None when an error may hide some."""
        built = self.parts.get("ports")
        if self.damaged or (built is not None and "ports" not in built.values):
            return None
        return () if built is None else built.values.get("ports", ())

    @property
    def references(self) -> tuple[Address, ...]:
        if not self.refers:
            return ()
        return tuple(dict.fromkeys(address for addresses in self.refers.values() for address in addresses))
