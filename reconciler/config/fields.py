"""From the keys of a sandbox's block to the fields of its `SandboxSpec`, each with the places of its values.

Gets blocks that are valid and filled in already. What only the meaning shows to be wrong (a port named twice, a
`${` left over) raises `Wrong`, which the caller turns into a diagnostic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from reconciler.config.confinement import build_mounts, build_network, build_security
from reconciler.config.diagnostics import at, closest, one_of, quote
from reconciler.config.lifecycle import build_drift, build_lifecycle, build_rollout
from reconciler.config.nodes import Node
from reconciler.config.values import (
    Built,
    Surroundings,
    Wrong,
    cores,
    duration,
    note_places,
    size,
    text,
    unreadable,
    whole,
    words,
)
from reconciler.model.desired import LABEL_PREFIX, Port, ProbeKind, Readiness, Resources

_RESTART = r"no|on-failure(:[1-9][0-9]{0,8})?|always|unless-stopped"

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
    def build(node: Node, around: Surroundings) -> Built:
        if node.kids is None:
            raise unreadable(node, "a mapping")
        values = {key: text(kid) for key, kid in node.kids.items()}
        where = {name: at(node)} if around.places else {}
        for key, kid in node.kids.items() if around.places else ():
            where[f"{name}.{key}"] = at(kid)
        return Built({name: values}, where)

    return build


_LABELS = _text_map("labels")


def _labels(node: Node, around: Surroundings) -> Built:
    for key in node.named():
        if key.startswith(LABEL_PREFIX):
            raise Wrong(
                node.keys[key], "reserved-label", f"labels that begin with `{LABEL_PREFIX}` say whose a sandbox is, and are set by us",
                "choose another name",
            )  # fmt: skip
    return _LABELS(node, around)


def _restart(node: Node, _around: Surroundings) -> Built:
    """YAML 1.1 reads a bare `no` as false, and so do tools that write our files."""
    value = "no" if node.data is False else text(node)
    if not re.fullmatch(_RESTART, value):
        raise unreadable(node, "`no`, `on-failure`, `on-failure:N`, `always` or `unless-stopped`")
    return Built({"restart": value}, {"restart": at(node)})


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
        note_places(where, f"ports.{name}", keys, ("container", "host", "bind"))
    return Built({"ports": tuple(ports)}, where)


def _address(node: Node) -> str:
    try:
        import ipaddress  # only a `bind` that is given needs it

        return str(ipaddress.ip_address(text(node)))
    except ValueError:
        raise unreadable(node, "an IP address such as 127.0.0.1") from None


def _resources(node: Node, _around: Surroundings) -> Built:
    readers: Mapping[str, Callable[[Node], Any]] = {"cpu": cores, "memory": size, "pids": whole, "shm": size}
    keys = node.named()
    values = {name: read(keys[name]) for name, read in readers.items() if name in keys}
    where = {"resources": at(node)}
    note_places(where, "resources", keys, tuple(readers))
    return Built({"resources": Resources(**values)}, where)


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
    "mounts": build_mounts,
    "resources": _resources,
    "network": build_network,
    "security": build_security,
    "runtime": _plain("runtime"),
    "restart": _restart,
    "thread_id": _thread_id,
    "labels": _labels,
    "readiness": _readiness,
    "unsupported": _unsupported,
    "lifecycle": build_lifecycle,
    "rollout": build_rollout,
    "drift": build_drift,
}
