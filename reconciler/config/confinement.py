"""`mounts`, `network` and `security` of a sandbox's block: what it gets to see, to reach and to do.

Of the file system it reads one thing, the seccomp profile that is named. Must never make a path of what is none: the
name of a volume or of a network.
"""

from __future__ import annotations

import posixpath
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reconciler.config.diagnostics import at, closest, quote
from reconciler.config.nodes import Node
from reconciler.config.values import (
    Built,
    Surroundings,
    Wrong,
    absolute_path,
    flag,
    note_places,
    size,
    text,
    unreadable,
    words,
)
from reconciler.model.desired import Mount, MountKind, Network, NetworkMode, Security
from reconciler.model.position import Position
from reconciler.model.sha256 import sha256

MAX_PROFILE_BYTES = 1024 * 1024
_VOLUME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}"
_ALL = "ALL"
_CAPABILITY_NAMES = """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER
    FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE
    NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE
    SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
"""  # capabilities(7), as of Linux 5.9
_CAPABILITIES = frozenset(_CAPABILITY_NAMES.split())


# --- mounts ----------------------------------------------------------------------------------------------------


def build_mounts(node: Node, around: Surroundings) -> Built:
    mounts: list[Mount] = []
    where = {"mounts": at(node)}
    targets: dict[str, Node] = {}
    for number, entry in enumerate(node.listed(), start=1):
        keys = entry.named()
        if entry.damaged or "target" not in keys:
            continue  # an invalid part was taken out and told
        mount = _mount(entry, number, keys, around.environ)
        if mount.target in targets:
            raise Wrong(
                keys["target"], "twice", f"two mounts have the target {quote(mount.target)}", "remove one of the two",
                (("first here", targets[mount.target]),),
            )  # fmt: skip
        targets[mount.target] = keys["target"]
        mounts.append(mount)
        where[f"mounts.{mount.target}"] = at(entry)
        note_places(where, f"mounts.{mount.target}", keys, ("type", "source", "read_only", "size"))
    return Built({"mounts": tuple(mounts)}, where)


def _mount(entry: Node, number: int, keys: Mapping[str, Node], environ: Mapping[str, str]) -> Mount:
    kind = _kind(keys.get("type"))
    read_only, room = keys.get("read_only"), keys.get("size")
    if room is not None and kind is not MountKind.TMPFS:
        raise Wrong(
            room, "mount", "`size` has a meaning with `type: tmpfs` alone", "write `type: tmpfs`, or remove `size`"
        )  # fmt: skip
    return Mount(
        kind=kind,
        source=_source(kind, entry, number, keys.get("source"), environ),
        target=_target(keys["target"]),
        read_only=read_only is not None and flag(read_only),
        size=None if room is None else size(room),
    )


def _kind(node: Node | None) -> MountKind:
    if node is None:
        return MountKind.BIND
    if node.text not in set(MountKind):
        raise unreadable(node, "`bind`, `volume` or `tmpfs`")
    return MountKind(node.text or "")


def _source(kind: MountKind, entry: Node, number: int, node: Node | None, environ: Mapping[str, str]) -> str:
    if kind is MountKind.TMPFS:
        if node is not None:
            raise Wrong(
                node,
                "mount",
                "a tmpfs has no `source`: it begins empty",
                "remove `source`, or write `type: bind`",
            )
        return ""
    if node is None:
        what = "the name of a volume" if kind is MountKind.VOLUME else "a path on the host"
        raise Wrong(
            entry, "missing-key", f"`source` is missing from entry {number} of `mounts`", f"add `source: …`: {what}"
        )  # fmt: skip
    if kind is MountKind.BIND:
        return absolute_path(node, environ)
    name = text(node)
    if not re.fullmatch(_VOLUME, name):
        raise Wrong(
            node, "wrong-value", f"{quote(name)} is not the name of a volume",
            "use letters, digits, `_`, `.` and `-`, beginning with a letter or digit; for a path write `type: bind`",
        )  # fmt: skip
    return name


def _target(node: Node) -> str:
    """Absolute, as an engine takes it: two ways to write one place are one target."""
    written = text(node)
    if not written.startswith("/"):
        raise unreadable(node, "an absolute path such as /mnt/user-data")
    return "/" + posixpath.normpath(written).lstrip("/")


# --- network ---------------------------------------------------------------------------------------------------

_NO_NETWORKS = {
    "none": ("is no network but the lack of one", "write `mode: isolated`"),
    "host": ("would be the host's own network, with nothing between", "name another network, or remove `name`"),
    "default": ("is what there is without a name", "remove `name`"),
}  # fmt: skip


def build_network(node: Node, _around: Surroundings) -> Built:
    keys = node.named()
    mode, allow, name = keys.get("mode"), keys.get("allow"), keys.get("name")
    if mode is not None and mode.text not in set(NetworkMode):
        raise unreadable(mode, "`open`, `isolated` or `allowlist`")
    value = None if mode is None else NetworkMode(mode.text or "")
    if name is not None:
        _check_named(name, mode, value)
        value = NetworkMode.OPEN
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
    if name is not None:
        where["network.mode"] = at(name)  # which it stands for, unless that is said as well
    note_places(where, "network", keys, ("mode", "name", "allow"))
    network = Network(
        mode=value,
        name=None if name is None else text(name),
        allow=() if allow is None else words(allow),
    )
    return Built({"network": network}, where)


def _check_named(name: Node, mode: Node | None, value: NetworkMode | None) -> None:
    if mode is not None and value is not NetworkMode.OPEN:
        raise Wrong(
            name, "network", f"`name` and `mode: {value}` exclude each other: a named network is open",
            "remove one of the two", (("the other", mode),),
        )  # fmt: skip
    word = text(name)
    if word in _NO_NETWORKS:
        reason, fix = _NO_NETWORKS[word]
        raise Wrong(name, "network", f"{quote(word)} {reason}", fix)


# --- security --------------------------------------------------------------------------------------------------


def build_security(node: Node, around: Surroundings) -> Built:
    readers: Mapping[str, Callable[[Node], Any]] = {
        "read_only_root": flag, "cap_drop": _capabilities, "cap_add": _added, "init": flag, "no_new_privileges": flag,
        "seccomp": lambda named: _seccomp(named, around.environ), "user": text,
    }  # fmt: skip
    keys = node.named()
    values = {name: read(keys[name]) for name, read in readers.items() if name in keys}
    if "cap_add" in keys and "cap_drop" in keys:
        _check_contradiction(keys["cap_drop"], keys["cap_add"], values)
    where: dict[str, Position] = {"security": at(node)}
    note_places(where, "security", keys, tuple(readers))
    return Built({"security": Security(**values)}, where)


def _capabilities(node: Node) -> tuple[str, ...]:
    """Names without `CAP_`, in upper case, each once; `ALL` stands for all the others."""
    if node.items is None:
        raise unreadable(node, "a list")
    names = dict.fromkeys(_capability(item) for item in node.items)
    return (_ALL,) if _ALL in names else tuple(names)


def _capability(node: Node) -> str:
    name = text(node).upper().removeprefix("CAP_")
    if name != _ALL and name not in _CAPABILITIES:
        meant = closest(name, _CAPABILITIES)
        raise Wrong(
            node, "wrong-value", f"there is no Linux capability {quote(text(node))}",
            f"did you mean {quote(meant)}?" if meant else "write a name of capabilities(7), such as `NET_ADMIN`",
        )  # fmt: skip
    return name


def _added(node: Node) -> tuple[str, ...]:
    names = _capabilities(node)
    if _ALL in names:
        item = next(item for item in node.listed() if _capability(item) == _ALL)
        raise Wrong(
            item, "security", "`cap_add` takes no `ALL`: the sandbox could do what root of the host can",
            "name the capabilities that it needs",
        )  # fmt: skip
    return names


def _check_contradiction(dropped: Node, added: Node, values: Mapping[str, Any]) -> None:
    """Everything but some is `ALL` with additions; one name in both is a contradiction."""
    for item in added.listed():
        name = _capability(item)
        if name in values["cap_drop"]:
            other = next(found for found in dropped.listed() if _capability(found) == name)
            raise Wrong(
                item, "twice", f"the capability {quote(name)} is dropped and added", "remove one of the two",
                (("dropped here", other),),
            )  # fmt: skip


def _seccomp(node: Node, environ: Mapping[str, str]) -> str:
    """`default`, `unconfined`, or a profile as `PATH#sha256:DIGEST`: absolute, with the first 12 hex digits over its
    content, so that a changed profile is a changed field."""
    import json

    word = text(node)
    if word in ("default", "unconfined"):
        return word
    path = absolute_path(node, environ)
    content = _profile(node, path)
    try:
        profile = json.loads(content)
    except (ValueError, RecursionError):
        profile = None
    if not isinstance(profile, dict):
        raise Wrong(
            node, "seccomp", f"the seccomp profile {quote(word)} is not a JSON object",
            "name a profile as Docker takes it: JSON with `defaultAction` and `syscalls`",
        )  # fmt: skip
    return f"{path}#sha256:{sha256(content).hexdigest()[:12]}"


def _profile(node: Node, path: str) -> bytes:
    word = text(node)
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise Wrong(
                node, "seccomp", f"the seccomp profile {quote(word)} is not a file", "name a JSON file"
            )
        with open(path, "rb") as file:
            content = file.read(MAX_PROFILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise Wrong(
            node, "seccomp", f"there is no seccomp profile {quote(path)}",
            "write `default`, `unconfined`, or the path of a JSON profile, relative to this file",
        ) from None  # fmt: skip
    except (OSError, ValueError) as error:
        reason = (
            (error.strerror or type(error).__name__).lower() if isinstance(error, OSError) else "no such path"
        )
        raise Wrong(
            node, "seccomp", f"the seccomp profile {quote(word)} cannot be read: {reason}", "check its permissions"
        ) from None  # fmt: skip
    if len(content) > MAX_PROFILE_BYTES:
        raise Wrong(
            node, "seccomp", f"the seccomp profile {quote(word)} is larger than 1 MiB", "name a smaller file"
        )
    return content
