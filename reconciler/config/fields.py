"""From the keys of a sandbox's block to the fields of its `SandboxSpec`, each with the places of its values.

Gets blocks that are valid and filled in already. What only the meaning shows to be wrong (a port named twice, a
`${` left over) raises `Wrong`, which the caller turns into a diagnostic.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.config import quantities
from reconciler.config.diagnostics import at, closest, one_of, quote
from reconciler.config.nodes import Node
from reconciler.model.desired import (
    Mount,
    Network,
    NetworkMode,
    Port,
    ProbeKind,
    Readiness,
    Resources,
    Security,
)
from reconciler.model.position import Position


class Wrong(Exception):
    """A value that means nothing here."""

    def __init__(
        self, node: Node, code: str, summary: str, fix: str, related: tuple[tuple[str, Node], ...] = ()
    ) -> None:
        super().__init__(summary)
        self.node = node
        self.code = code
        self.summary = summary
        self.fix = fix
        self.related = related


@dataclass(frozen=True, slots=True)
class Built:
    """Some of a spec's fields, and where in the YAML each path of the canonical form was said."""

    values: Mapping[str, Any]
    where: Mapping[str, Position] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a field may need besides its own value."""

    environ: Mapping[str, str]
    ports: tuple[Port, ...] | None = ()  # None: not known, because of an error told before


# --- single values ---------------------------------------------------------------------------------------------


def unreadable(node: Node, expected: str) -> Wrong:
    found = (
        "a mapping"
        if node.kids is not None
        else "a list"
        if node.items is not None
        else quote(node.text or '""')
    )
    return Wrong(node, "wrong-value", f"this must be {expected}, not {found}", f"write {expected}")


def text(node: Node) -> str:
    """A scalar as it was written."""
    if node.text is None or node.data is None:
        raise unreadable(node, "text")
    return node.text


def words(node: Node) -> tuple[str, ...]:
    if node.items is None:
        raise unreadable(node, "a list")
    return tuple(text(item) for item in node.items)


def whole(node: Node) -> int:
    if isinstance(node.data, bool) or not isinstance(node.data, int | float) or int(node.data) != node.data:
        raise unreadable(node, "a whole number")
    return int(node.data)


def flag(node: Node) -> bool:
    if not isinstance(node.data, bool):
        raise unreadable(node, "true or false")
    return node.data


def duration(node: Node) -> float:
    value = quantities.seconds(node.text or "")
    if value is None:
        raise unreadable(node, "a duration such as 250ms, 60s or 1h30m")
    return value


def size(node: Node) -> int:
    value = quantities.size(str(node.data) if isinstance(node.data, int) else node.text or "")
    if not value:
        raise unreadable(node, "a size such as 512M, 1Gi or 1g")
    return value


def cores(node: Node) -> float:
    value = quantities.cores(node.text or "")
    if value is None and isinstance(node.data, int | float) and 0 < node.data <= 1_000_000:
        value = float(node.data)
    if value is None:
        raise unreadable(node, "a number of cores such as 1, 0.5 or 500m")
    return value


_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def absolute_path(node: Node, environ: Mapping[str, str]) -> str:
    """A path as absolute: relative to the file that says it, `~` to the user's home."""
    path = text(node)
    if path == "~" or path.startswith("~/"):
        home = environ.get("HOME", "")
        if not home:
            raise Wrong(node, "path", "`~` means nothing here, because HOME is not set", "write the path out")
        path = home + path[1:]
    if _DRIVE.match(path):
        return path
    return os.path.normpath(os.path.join(node.source.path.parent, path))


# --- fields ----------------------------------------------------------------------------------------------------


def _plain(name: str) -> Callable[[Node, Surroundings], Built]:
    def build(node: Node, _around: Surroundings) -> Built:
        return Built({name: text(node)}, {name: at(node)})

    return build


def _word_list(name: str) -> Callable[[Node, Surroundings], Built]:
    def build(node: Node, _around: Surroundings) -> Built:
        return Built({name: words(node)}, {name: at(node)})

    return build


def _text_map(name: str) -> Callable[[Node, Surroundings], Built]:
    def build(node: Node, _around: Surroundings) -> Built:
        if node.kids is None:
            raise unreadable(node, "a mapping")
        where = {name: at(node)}
        values = {}
        for key, kid in node.kids.items():
            values[key] = text(kid)
            where[f"{name}.{key}"] = at(kid)
        return Built({name: values}, where)

    return build


def _thread_id(node: Node, _around: Surroundings) -> Built:
    return Built({"thread_id": None if node.data is None else text(node)}, {"thread_id": at(node)})


def _unsupported(node: Node, _around: Surroundings) -> Built:
    if node.text not in ("warn", "error"):
        raise unreadable(node, "`error` or `warn`")
    return Built({"unsupported_warn": node.text == "warn"})


def _ports(node: Node, _around: Surroundings) -> Built:
    ports: list[Port] = []
    where = {"ports": at(node)}
    names: dict[str, Node] = {}
    for entry in node.listed():
        keys = entry.named()
        if "name" not in keys or "container" not in keys:
            continue  # an invalid part was taken out and told
        name = text(keys["name"])
        if name in names:
            raise Wrong(
                keys["name"], "twice", f"the port {quote(name)} is here twice", "rename one of the two",
                (("first here", names[name]),),
            )  # fmt: skip
        names[name] = keys["name"]
        host = keys.get("host")
        bind = keys.get("bind")
        auto = host is None or host.text == "auto"
        ports.append(
            Port(
                name=name,
                container=whole(keys["container"]),
                host=None if auto or host is None else whole(host),
                bind="127.0.0.1" if bind is None else _address(bind),
            )
        )
        where[f"ports.{name}"] = at(entry)
        _note(where, f"ports.{name}", keys, ("container", "host", "bind"))
    return Built({"ports": tuple(ports)}, where)


def _address(node: Node) -> str:
    try:
        return str(ipaddress.ip_address(text(node)))
    except ValueError:
        raise unreadable(node, "an IP address such as 127.0.0.1") from None


def _mounts(node: Node, around: Surroundings) -> Built:
    mounts: list[Mount] = []
    where = {"mounts": at(node)}
    targets: dict[str, Node] = {}
    for entry in node.listed():
        keys = entry.named()
        if "source" not in keys or "target" not in keys:
            continue  # an invalid part was taken out and told
        target = text(keys["target"])
        target = target.rstrip("/") or "/"
        if target in targets:
            raise Wrong(
                keys["target"], "twice", f"two mounts have the target {quote(target)}", "remove one of the two",
                (("first here", targets[target]),),
            )  # fmt: skip
        targets[target] = keys["target"]
        read_only = keys.get("read_only")
        mounts.append(
            Mount(
                source=absolute_path(keys["source"], around.environ),
                target=target,
                read_only=read_only is not None and flag(read_only),
            )
        )
        where[f"mounts.{target}"] = at(entry)
        _note(where, f"mounts.{target}", keys, ("source", "read_only"))
    return Built({"mounts": tuple(mounts)}, where)


def _resources(node: Node, _around: Surroundings) -> Built:
    readers: Mapping[str, Callable[[Node], Any]] = {"cpu": cores, "memory": size, "pids": whole, "shm": size}
    keys = node.named()
    values = {name: read(keys[name]) for name, read in readers.items() if name in keys}
    where = {"resources": at(node)}
    _note(where, "resources", keys, tuple(readers))
    return Built({"resources": Resources(**values)}, where)


def _network(node: Node, _around: Surroundings) -> Built:
    keys = node.named()
    mode, allow = keys.get("mode"), keys.get("allow")
    if mode is not None and mode.text not in set(NetworkMode):
        raise unreadable(mode, "`open`, `isolated` or `allowlist`")
    value = None if mode is None else NetworkMode(mode.text or "")
    if allow is not None and value is not NetworkMode.ALLOWLIST:
        raise Wrong(
            allow,
            "network",
            "`allow` has a meaning with `mode: allowlist` alone",
            "write `mode: allowlist`, or remove `allow`",
        )
    if mode is not None and value is NetworkMode.ALLOWLIST and allow is None:
        raise Wrong(
            mode,
            "network",
            "`mode: allowlist` needs `allow`",
            "add `allow: [HOST, …]`, or write `mode: isolated`",
        )
    where = {"network": at(node)}
    _note(where, "network", keys, ("mode", "allow"))
    return Built({"network": Network(mode=value, allow=() if allow is None else words(allow))}, where)


def _security(node: Node, _around: Surroundings) -> Built:
    readers: Mapping[str, Callable[[Node], Any]] = {
        "read_only_root": flag, "cap_drop": words, "no_new_privileges": flag, "seccomp": text, "user": text,
    }  # fmt: skip
    keys = node.named()
    values = {name: read(keys[name]) for name, read in readers.items() if name in keys}
    where = {"security": at(node)}
    _note(where, "security", keys, tuple(readers))
    return Built({"security": Security(**values)}, where)


def _note(where: dict[str, Position], prefix: str, keys: Mapping[str, Node], names: tuple[str, ...]) -> None:
    for name in names:
        if name in keys:
            where[f"{prefix}.{name}"] = at(keys[name])


# --- readiness -------------------------------------------------------------------------------------------------


def _readiness(node: Node, around: Surroundings) -> Built:
    where = {"readiness": at(node)}
    if node.kids is None:
        if node.text != "none":
            raise unreadable(node, "a mapping, or the word `none`")
        return Built({"readiness": Readiness(kind=ProbeKind.NONE)}, where)
    keys = node.named()
    kinds = [ProbeKind(name) for name in ("http", "tcp", "exec") if name in keys]
    if len(kinds) > 1:
        raise Wrong(
            keys[kinds[1]], "readiness", f"`{kinds[0]}` and `{kinds[1]}` cannot both tell readiness",
            "keep one of `http`, `tcp` and `exec`", (("the other", keys[kinds[0]]),),
        )  # fmt: skip
    kind = kinds[0] if kinds else ProbeKind.HTTP
    values: dict[str, Any] = {"kind": kind, "port": _probe_port(kind, keys, around.ports)}
    if "http" in keys:
        values["path"] = text(keys["http"])
    if "exec" in keys:
        values["command"] = words(keys["exec"])
    if "expect" in keys and kind is not ProbeKind.HTTP:
        raise Wrong(keys["expect"], "readiness", f"`expect` has no meaning with `{kind}`", "remove it")
    for name, read in _PROBE_READERS.items():
        if name in keys:
            values[name] = read(keys[name])
    return Built({"readiness": Readiness(**values)}, where)


_PROBE_READERS: Mapping[str, Callable[[Node], Any]] = {
    "expect": whole,
    "successes": whole,
    "interval": duration,
    "timeout": duration,
}


def _probe_port(kind: ProbeKind, keys: Mapping[str, Node], ports: tuple[Port, ...] | None) -> str | None:
    """The declared port to ask; None for the sandbox's own URL."""
    node = keys.get("tcp") if kind is ProbeKind.TCP else keys.get("port")
    if kind is not ProbeKind.HTTP and "port" in keys:
        raise Wrong(keys["port"], "readiness", f"`port` has no meaning with `{kind}`", "remove it")
    if node is None:
        return None
    wanted = text(node)
    if ports is None:
        return None
    names = {port.name for port in ports}
    if wanted in names:
        return wanted
    if kind is ProbeKind.TCP:
        for port in ports:
            if str(port.container) == wanted:
                return port.name
    if wanted == "http" or (wanted == "8080" and kind is ProbeKind.TCP):
        return None
    meant = closest(wanted, names | {"http"})
    fix = (
        f"did you mean {quote(meant)}?"
        if meant
        else f"declare it under `ports`, or choose {one_of(sorted(names | {'http'}))}"
    )
    raise Wrong(node, "unknown-port", f"there is no port {quote(wanted)} in this sandbox's `ports`", fix)


FIELDS: Mapping[str, Callable[[Node, Surroundings], Built]] = {
    "image": _plain("image"),
    "command": _word_list("command"),
    "entrypoint": _word_list("entrypoint"),
    "environment": _text_map("environment"),
    "ports": _ports,
    "mounts": _mounts,
    "resources": _resources,
    "network": _network,
    "security": _security,
    "runtime": _plain("runtime"),
    "thread_id": _thread_id,
    "labels": _text_map("labels"),
    "readiness": _readiness,
    "unsupported": _unsupported,
}
