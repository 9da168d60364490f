"""From the engine's JSON to `ObservedSandbox`: phase, connection details, owner, live attributes. Pure.

A listing shows state, names, ports, networks and labels; an inspection shows everything. Both give the same
`SandboxInfo` for the same container.
"""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from reconciler.backends.containers import HTTP_PORT, SANDBOX_ID, THREAD_ID, free_labels, owner_of, url_of
from reconciler.backends.docker.request import NETWORK, NO_NETWORK, PORTS, restart_text
from reconciler.model.desired import Scalar
from reconciler.model.observed import Astray, ObservedSandbox, Phase, SandboxInfo

Json = Mapping[str, Any]
Published = Mapping[int, tuple[tuple[str, int], ...]]
"""Container port → addresses and ports of the host that lead there."""

_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)  # a label may hold a number of any length
_EXIT = re.compile(r"Exited \((\d+)\)")
_PHASE = {
    "created": Phase.FAILED,
    "running": Phase.STARTING,
    "paused": Phase.PAUSED,
    "restarting": Phase.UNREADY,
    "removing": Phase.UNKNOWN,
    "exited": Phase.FAILED,
    "stopped": Phase.FAILED,  # Podman's word for exited
    "dead": Phase.FAILED,
}
NEVER_STARTED = "created, but never started"
_SAID = {
    "created": NEVER_STARTED,
    "restarting": "it ends and is started again and again",
    "removing": "the engine is removing it",
    "dead": "the engine could not remove it",
}


class Reader:
    """How this backend reads containers. `url_host` is the host in URLs where it is not the bound address; `prefix`
    of the names we give; `reaches_containers` whether addresses of containers can be reached from here."""

    def __init__(self, *, url_host: str | None, prefix: str, reaches_containers: bool) -> None:
        self._url_host = url_host
        self._prefix = prefix
        self._reaches = reaches_containers

    def listed(self, item: Json) -> ObservedSandbox:
        """An entry of a listing."""
        labels = item.get("Labels") or {}
        networks = (item.get("NetworkSettings") or {}).get("Networks") or {}
        state, status = item.get("State") or "", item.get("Status") or ""
        exit_code = _EXIT.match(status)
        phase, detail = phase_of(
            state, int(exit_code[1]) if exit_code else None, unhealthy="(unhealthy)" in status
        )
        name = _name((item.get("Names") or [""])[0])
        published = _published(
            (port["PrivatePort"], port.get("IP", ""), port["PublicPort"])
            for port in item.get("Ports") or ()
            if port.get("PublicPort")
        )
        return self._seen(
            item["Id"], name, labels, phase, detail, int(item["Created"]), published, networks, None
        )

    def inspected(self, item: Json) -> ObservedSandbox:
        """The answer to an inspection, with every attribute that can be read back."""
        labels = item["Config"].get("Labels") or {}
        state, settings = item["State"], item.get("NetworkSettings") or {}
        health = (state.get("Health") or {}).get("Status") == "unhealthy"
        status = "paused" if state.get("Paused") else state.get("Status") or ""
        phase, detail = phase_of(status, state.get("ExitCode"), unhealthy=health)
        if phase.is_dead:
            detail = _death(state, detail)
        published = _published(
            (int(port.partition("/")[0]), one.get("HostIp", ""), int(one["HostPort"]))
            for port, bound in (settings.get("Ports") or {}).items()
            for one in bound or ()
        )
        networks = settings.get("Networks") or {}
        created = int(datetime.fromisoformat(_seconds(item["Created"])).timestamp())
        name = _name(item.get("Name") or "")
        return self._seen(
            item["Id"], name, labels, phase, detail, created, published, networks, _attributes(item)
        )

    def _seen(
        self,
        container: str,
        name: str,
        labels: Mapping[str, str],
        phase: Phase,
        detail: str,
        created: int,
        published: Published,
        networks: Mapping[str, Any],
        attributes: dict[str, Scalar] | None,
    ) -> ObservedSandbox:
        sandbox_id = labels.get(SANDBOX_ID) or name
        info = SandboxInfo(
            sandbox_id=sandbox_id,
            sandbox_url=self._url(labels, published, networks),
            container_name=name,
            container_id=container,
            created_at=float(created),
            ports={name: port for name, (_, port) in _placed(labels, published).items()},
        )
        ours = SANDBOX_ID in labels
        return ObservedSandbox(
            info=info,
            phase=phase,
            owner=owner_of(labels),
            attributes=attributes if attributes is not None else _labelled(labels),
            detail=detail,
            astray=self._astray(name, labels, phase, networks) if ours and not phase.is_dead else (),
        )

    def _url(self, labels: Mapping[str, str], published: Published, networks: Mapping[str, Any]) -> str:
        """At the published port; at the container's own address where nothing is published, as on an internal
        network; "" where there is no way in."""
        names = named(labels)
        inside = names.get("http", HTTP_PORT)
        if inside in published:
            host, port = _placed(labels, published).get("http", published[inside][0])
            return url_of(self._url_host or host, port)
        addresses = [network.get("IPAddress") for _, network in sorted(networks.items())]
        address = next((address for address in addresses if address), None)
        return url_of(address, inside) if address and self._reaches else ""

    def _astray(
        self, name: str, labels: Mapping[str, str], phase: Phase, networks: Mapping[str, Any]
    ) -> tuple[Astray, ...]:
        """What somebody changed that no declared field speaks of."""
        found: list[Astray] = []
        meant = f"{self._prefix}-{labels[SANDBOX_ID]}"
        if name != meant:
            found.append(Astray(path="container.name", live=name, meant=meant))
        if phase is Phase.PAUSED:
            found.append(Astray(path="container.paused", live=True, meant=False))
        network = labels.get(NETWORK)
        attached = sorted(set(networks) - {NO_NETWORK})
        wanted = [] if network in (None, NO_NETWORK) else [network]
        if (
            network is not None
            and attached != [_PODMAN_NAMES.get(w or "", w) for w in wanted]
            and attached != wanted
        ):
            found.append(
                Astray(
                    path="container.networks",
                    live=", ".join(attached) or NO_NETWORK,
                    meant=", ".join(str(w) for w in wanted) or NO_NETWORK,
                )
            )
        return tuple(found)


_PODMAN_NAMES = {"bridge": "podman"}  # what Podman calls the network it puts a container on without a name


def phase_of(state: str, exit_code: int | None, *, unhealthy: bool = False) -> tuple[Phase, str]:
    """The phase, and for people what it does not say."""
    phase = _PHASE.get(state, Phase.UNKNOWN)
    if state == "running" and unhealthy:
        return Phase.UNREADY, "the health check of its image fails"
    if state in ("exited", "stopped") and exit_code is not None:
        return (Phase.STOPPED if exit_code == 0 else Phase.FAILED), exit_text(exit_code)
    return phase, _SAID.get(state, "" if state in _PHASE else f"the engine calls it {state!r}")


def exit_text(code: int) -> str:
    if code > 128:
        with suppress(ValueError):
            return f"exit code {code} ({signal.Signals(code - 128).name})"
    return f"exit code {code}"


def _death(state: Json, detail: str) -> str:
    if state.get("OOMKilled"):
        return f"{detail}, out of memory"
    error = str(state.get("Error") or "").strip()
    return f"{detail}: {error[:200]}" if error else detail


def named(labels: Mapping[str, str]) -> dict[str, int]:
    """The published ports' names, as we labelled them; `http` alone for what others made."""
    text = labels.get(PORTS)
    if text is None:
        return {"http": HTTP_PORT}
    pairs = (entry.partition("@")[0].partition("=") for entry in text.split(",") if entry)
    return {name: int(number) for name, _, number in pairs if _PORT.fullmatch(number)}


def _published(entries: Iterable[tuple[int, str, int]]) -> Published:
    """By container port, from entries in any order. What is open on every address has one of each family: the older
    one first."""
    found: dict[int, list[tuple[str, int]]] = {}
    for number, address, port in entries:
        found.setdefault(number, []).append((address, port))
    return {
        number: tuple(sorted(places, key=lambda place: (":" in place[0], place)))
        for number, places in found.items()
    }


def _placed(labels: Mapping[str, str], published: Published) -> dict[str, tuple[str, int]]:
    """Where each name is published. Two names of one container port are told apart by what was asked for."""
    asked = {entry.partition("=")[0]: entry.partition("@")[2] for entry in labels.get(PORTS, "").split(",")}
    found: dict[str, tuple[str, int]] = {}
    for name, number in named(labels).items():
        address, _, host = asked.get(name, "").partition("#")
        for place in published.get(number, ()):
            meant = address in ("", place[0]) and host in ("", str(place[1]))
            if meant and not (address and place in found.values()):
                found[name] = place
                break
    return found


def _name(text: str) -> str:
    return text.removeprefix("/")


def _seconds(stamp: str) -> str:
    """An ISO stamp without the fraction, whose nanoseconds Python does not read."""
    return re.sub(r"\.\d+", "", stamp)


def _labelled(labels: Mapping[str, str]) -> dict[str, Scalar]:
    """What labels alone tell of the attributes."""
    attributes: dict[str, Scalar] = {f"labels.{key}": value for key, value in free_labels(labels).items()}
    if THREAD_ID in labels:
        attributes["thread_id"] = labels[THREAD_ID]
    return attributes


def _attributes(item: Json) -> dict[str, Scalar]:
    """Every field that an inspection shows, by canonical path; None is "not set"."""
    config, host = item["Config"], item["HostConfig"]
    labels = config.get("Labels") or {}
    security = [str(option).replace(":true", "") for option in host.get("SecurityOpt") or ()]
    attributes: dict[str, Scalar] = {
        **_labelled(labels),
        "image": config.get("Image"),
        "command": _words(config.get("Cmd")),
        "entrypoint": _words(config.get("Entrypoint")),
        "runtime": host.get("Runtime"),
        "restart": restart_text(host.get("RestartPolicy")),
        "resources.cpu": _cpu(host),
        "resources.memory": host.get("Memory") or None,
        "resources.pids": _positive(host.get("PidsLimit")),
        "resources.shm": host.get("ShmSize"),
        "network.mode": "isolated" if host.get("NetworkMode") == NO_NETWORK else "open",
        "network.name": _network_name(host.get("NetworkMode")),
        "security.read_only_root": bool(host.get("ReadonlyRootfs")),
        "security.no_new_privileges": "no-new-privileges" in security,
        "security.user": config.get("User") or None,
        "security.init": bool(host.get("Init")),
        "security.cap_drop": _capabilities(host.get("CapDrop")),
        "security.cap_add": _capabilities(host.get("CapAdd")),
    }
    for entry in config.get("Env") or ():
        name, _, value = entry.partition("=")
        attributes[f"environment.{name}"] = value
    attributes.update(_ports(host, labels))
    attributes.update(_mounts(host))
    return attributes


def _words(words: list[str] | str | None) -> str | None:
    if words is None:
        return None
    return json.dumps([words] if isinstance(words, str) else list(words), ensure_ascii=False)


def _cpu(host: Json) -> float | None:
    if host.get("NanoCpus"):
        return float(host["NanoCpus"]) / 1_000_000_000
    if host.get("CpuQuota", 0) > 0 and host.get("CpuPeriod"):
        return float(host["CpuQuota"] / host["CpuPeriod"])
    return None


def _positive(value: int | None) -> int | None:
    return value if value and value > 0 else None


def _network_name(mode: str | None) -> str | None:
    if mode == "default":
        return "bridge"
    return None if mode in (None, "", NO_NETWORK, "host") else mode


def _capabilities(names: list[str] | None) -> str:
    return json.dumps(sorted(name.removeprefix("CAP_") for name in names or ()))


def _ports(host: Json, labels: Mapping[str, str]) -> dict[str, Scalar]:
    bindings = host.get("PortBindings") or {}
    attributes: dict[str, Scalar] = {}
    met: Counter[int] = Counter()
    for name, number in named(labels).items():
        bound = (bindings.get(f"{number}/tcp") or [])[met[number] :]  # in the order of the names
        met[number] += 1
        if bound:
            wanted = bound[0].get("HostPort") or "0"
            attributes[f"ports.{name}.container"] = number
            attributes[f"ports.{name}.host"] = "auto" if wanted == "0" else int(wanted)
            attributes[f"ports.{name}.bind"] = bound[0].get("HostIp") or "0.0.0.0"  # noqa: S104 - what "" means
    return attributes


def _mounts(host: Json) -> dict[str, Scalar]:
    attributes: dict[str, Scalar] = {}
    for mount in host.get("Mounts") or ():
        path = f"mounts.{mount['Target']}"
        kind = mount.get("Type", "bind")
        attributes[f"{path}.read_only"] = bool(mount.get("ReadOnly"))
        if kind != "bind":
            attributes[f"{path}.type"] = kind
        if mount.get("Source"):
            attributes[f"{path}.source"] = mount["Source"]
        size = (mount.get("TmpfsOptions") or {}).get("SizeBytes")
        if size:
            attributes[f"{path}.size"] = size
    for entry in host.get("Binds") or ():  # what others made with -v
        source, target, *options = entry.split(":")
        attributes[f"mounts.{target}.source"] = source
        attributes[f"mounts.{target}.read_only"] = "ro" in ",".join(options).split(",")
    return attributes
