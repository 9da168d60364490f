"""From a validated document to `Desired`: variables, templates, replicas, for_each, references.

Tells every problem it finds and never raises for what a document says. Must never touch a backend, a store or the
network; of the file system it knows paths, and the content of seccomp profiles.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec.structs import replace

from reconciler.config.blocks import Blocks
from reconciler.config.dependencies import find_cycle
from reconciler.config.diagnostics import Problems, at, quote
from reconciler.config.groups import Directory, Group, make_group
from reconciler.config.interpolate import Expression, Failed, Interpolator, Scope, Variable, parse, suggest
from reconciler.config.load import Document
from reconciler.config.nodes import Node, new_mapping
from reconciler.config.sandbox import Builder, PortReference
from reconciler.config.sections import Section, section
from reconciler.config.settings import make_backends, make_store
from reconciler.model.desired import Address, Desired, DesiredSandbox, Import, Output
from reconciler.model.lifecycle import Move, Policy, Removal


def expand(
    document: Document, variables: Mapping[str, Variable], environ: Mapping[str, str], problems: Problems
) -> Desired:
    """The desired fleet. What had problems is missing from it; the caller looks at `problems` first."""
    root, complete = document.root, document.complete
    stack_node = root.get("stack")
    stack = (stack_node.text or "") if stack_node is not None else ""
    scope = Scope(stack=stack, variables=variables, environ=environ, problems=problems)
    backend_section = section(root, "backends", complete=complete)
    backends = make_backends(backend_section, scope)
    blocks = Blocks(section(root, "templates", complete=complete), root.get("defaults"), problems)
    declared = section(root, "sandboxes", complete=complete)
    own = {name: _mapping(node) for name, node in declared.entries.items()}
    groups = {
        name: make_group(name, declared.keys[name], node, blocks.block(node), scope)
        for name, node in own.items()
    }
    directory = Directory(groups, declared, problems)
    builder = Builder(scope, directory, backends, backend_section)
    sandboxes = {sandbox.address: sandbox for group in groups.values() for sandbox in builder.build(group)}
    outputs, asked = _outputs(section(root, "outputs", complete=complete), scope, directory)
    imports = _imports(root, scope, directory, sandboxes)
    moved, removed = _moves(root, scope, directory)
    policy = _policy(root, scope, sandboxes.values())
    _check_ports([*builder.port_references, *asked], sandboxes, problems)
    _check_cycles(sandboxes, groups, problems)
    _check_host_ports(sandboxes.values(), groups, problems)
    return Desired(
        stack=stack,
        sandboxes=dict(sorted(sandboxes.items())),
        backends=backends,
        store=make_store(root.get("state"), scope),
        outputs=outputs,
        imports=imports,
        moved=moved,
        removed=removed,
        policy=policy,
        blocks=document.blocks,
        directory=str(document.directory),
        files=tuple(str(source.path) for source in document.sources),
    )


def _mapping(node: Node) -> Node:
    """A sandbox with nothing behind its name says nothing of its own."""
    return new_mapping(node) if node.kids is None else node


def _imports(
    root: Node, scope: Scope, directory: Directory, sandboxes: Mapping[Address, DesiredSandbox]
) -> Mapping[Address, Import]:
    node = root.get("imports")
    if node is None:
        return {}
    from reconciler.config.imports import make_imports  # a section that few files have: they alone load it

    return make_imports(node, scope, directory, sandboxes)


def _moves(root: Node, scope: Scope, directory: Directory) -> tuple[tuple[Move, ...], tuple[Removal, ...]]:
    moved, removed = root.get("moved"), root.get("removed")
    if moved is None and removed is None:
        return (), ()
    from reconciler.config.moves import make_moves

    return make_moves(moved, removed, scope, directory)


def _policy(root: Node, scope: Scope, sandboxes: Collection[DesiredSandbox]) -> Policy:
    node = root.get("policy")
    if node is None:
        return Policy()
    from reconciler.config.policy import make_policy

    return make_policy(node, scope, sandboxes)


def _outputs(
    outputs: Section, scope: Scope, directory: Directory
) -> tuple[dict[str, Output], list[PortReference]]:
    asked: list[PortReference] = []

    def refer(node: Node, expression: Expression) -> Address | None:
        address = directory.refer(node, expression)
        port = (expression.rest or "").removeprefix("ports.")
        if address is not None and port != expression.rest:
            asked.append(PortReference(node, address, port))
        return address

    fill = Interpolator(replace(scope, refer=refer))
    made = {}
    for name, node in sorted(outputs.entries.items()):
        value = node if node.kids is None else node.get("value")
        if value is None or value.text is None:
            continue  # taken out for an error
        sensitive = node.get("sensitive")
        try:
            text = fill.text(value, parse(value.text))
        except Failed:
            continue
        made[name] = Output(
            name=name,
            value=text,
            position=at(value),
            sensitive=sensitive is not None and sensitive.data is True,
        )
    return made, asked


def _check_ports(
    asked: Iterable[PortReference], sandboxes: Mapping[Address, DesiredSandbox], problems: Problems
) -> None:
    for reference in asked:
        target = sandboxes.get(reference.address)
        if target is None:
            continue  # it has problems of its own
        names = [port.name for port in target.spec.ports]
        if reference.port not in names:
            problems.error(
                reference.node, "unknown-port", f"the sandbox {quote(reference.address)} declares no port {quote(reference.port)}",
                suggest(reference.port, names, "declare it under its `ports`"),
            )  # fmt: skip


def _check_cycles(
    sandboxes: Mapping[Address, DesiredSandbox], groups: Mapping[str, Group], problems: Problems
) -> None:
    needs = {address: sandbox.depends_on for address, sandbox in sandboxes.items() if sandbox.depends_on}
    cycle = find_cycle(needs)
    if not cycle:
        return
    first = sandboxes[cycle[0]]
    node = _cause(first, cycle[1], groups[first.group].block)
    shown = " → ".join(cycle if len(cycle) <= 8 else [*cycle[:7], "…", cycle[-1]])
    summary = f"sandboxes wait for each other in a circle: {shown}"
    if cycle[0] == cycle[1]:
        summary = f"the sandbox {quote(cycle[0])} waits for itself"
    problems.error(
        node if node is not None else groups[first.group].key, "cycle", summary,
        "remove one of these `depends_on` or `replace_triggered_by` entries or `${sandbox.…}` references",
    )  # fmt: skip


def _cause(sandbox: DesiredSandbox, needed: Address, block: Node) -> Node | None:
    """What in a sandbox's block makes it wait for another."""
    if needed in sandbox.references:
        return block.get("environment") or block.get("command")
    if needed in sandbox.lifecycle.replace_triggered_by:
        return block.named()["lifecycle"].get("replace_triggered_by")
    return block.get("depends_on")


def _check_host_ports(
    sandboxes: Iterable[DesiredSandbox], groups: Mapping[str, Group], problems: Problems
) -> None:
    """Two sandboxes of a backend cannot both publish on one port of a host."""
    fixed: dict[int, list[tuple[str, str, int]]] = {}
    taken: dict[tuple[str, str, int], Address] = {}
    told: set[int] = set()  # nodes: replicas share one, and one of them is enough
    for sandbox in sandboxes:
        spec = sandbox.spec
        if not spec.ports:
            continue
        if id(spec) not in fixed:
            fixed[id(spec)] = [
                (port.name, port.bind, port.host) for port in spec.ports if port.host is not None
            ]
        for name, bind, host in fixed[id(spec)]:
            other = taken.setdefault((sandbox.backend, bind, host), sandbox.address)
            ports = groups[sandbox.group].block.get("ports")
            if other == sandbox.address or ports is None:
                continue
            node = _host_node(ports, name)
            if id(node) not in told:
                told.add(id(node))
                problems.error(
                    node, "host-port", f"both {quote(other)} and {quote(sandbox.address)} ask for port {host} of the host ({bind})",
                    "write `host: auto`, or another number for each",
                )  # fmt: skip


def _host_node(ports: Node, name: str) -> Node:
    for entry in ports.listed():
        keys = entry.named()
        if "name" in keys and keys["name"].text == name:
            return keys.get("host", entry)
    return ports
