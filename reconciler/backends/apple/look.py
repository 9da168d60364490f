"""From the JSON of `container ls` and `inspect` to `ObservedSandbox`. Pure.

There are two generations: since 1.0 the status is an object and dates are ISO 8601, up to 0.12 it is a word and dates
are seconds since 2001. Any other shape is refused as a whole: a guess could make a container look absent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reconciler.backends.apple.request import ENVIRONMENT, IMAGE, INSTANCE, PORTS, decoded
from reconciler.backends.containers import (
    HTTP_PORT,
    MANAGED_BY,
    PREFIX,
    SANDBOX_ID,
    SECRETS_DIR,
    THREAD_ID,
    free_labels,
    owner_of,
    url_of,
)
from reconciler.errors import Permanent
from reconciler.model.desired import Scalar
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo

Json = Mapping[str, Any]

_NONSENSE = (
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)  # of a label that is none of ours
_EPOCH_2001 = 978_307_200.0  # seconds from 1970 to 2001
_PHASE = {
    "running": Phase.STARTING,
    "stopped": Phase.STOPPED,
    "stopping": Phase.UNKNOWN,
    "unknown": Phase.UNKNOWN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container as either generation tells it. `labels` are decoded; `created` and `started` are seconds since
    1970, None where it does not say; `published` maps container ports to where they are on the host."""

    name: str
    state: str
    labels: Mapping[str, str]
    published: Mapping[int, tuple[str, int]]
    created: float | None
    started: float | None
    configuration: Json = field(repr=False)

    @property
    def ours(self) -> bool:
        return MANAGED_BY in self.labels and SANDBOX_ID in self.labels

    @property
    def sandbox_id(self) -> str:
        """What we called it; the engine's own name for what is not ours."""
        return self.labels[SANDBOX_ID] if self.ours else self.name

    @property
    def identity(self) -> str:
        """Tells it from another container of the same name, which the engine itself does not."""
        if self.ours and INSTANCE in self.labels:
            return self.labels[INSTANCE]
        return self.name if self.created is None else f"{self.name}@{self.created:.0f}"

    @property
    def secrets(self) -> str | None:
        """What of the host is mounted where secrets are."""
        mounts = self.configuration.get("mounts") or []
        return next((mount.get("source") for mount in mounts if mount["destination"] == SECRETS_DIR), None)


def parse(text: str) -> list[Container]:
    """Every container of a listing or inspection. Raises Permanent for a shape that is neither generation's."""
    with _known_form():
        items = json.loads(text)
        if not isinstance(items, list):
            raise TypeError("not a list")
        return [_container(item) for item in items]


@contextmanager
def _known_form() -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise Permanent(
            f"`container` answered in a form that is not known here: {type(error).__name__}: {error}",
            hint="known are the forms of its versions 0.12 and 1.0 to 1.2; a newer one needs a newer reconciler",
        ) from error


def _container(item: Json) -> Container:
    configuration, status = item["configuration"], item["status"]
    newer = isinstance(status, dict)
    state = status["state"] if newer else status
    if state not in _PHASE:
        raise ValueError(f"the state {state!r}")
    labels = configuration.get("labels") or {}
    started = (status if newer else item).get("startedDate")
    created = configuration.get("creationDate")
    return Container(
        name=_text(configuration["id"]),
        state=state,
        labels={
            _text(name): decoded(_text(value)) if name.startswith(PREFIX) else _text(value)
            for name, value in labels.items()
        },
        published=_published(configuration.get("publishedPorts") or []),
        created=None if created is None else _seconds(created),
        started=None if started is None else _seconds(started),
        configuration=configuration,
    )


def _published(ports: Sequence[Json]) -> dict[int, tuple[str, int]]:
    found: dict[int, tuple[str, int]] = {}
    for port in ports:
        for offset in range(int(port.get("count") or 1)):
            place = (_text(port["hostAddress"]), int(port["hostPort"]) + offset)
            found.setdefault(int(port["containerPort"]) + offset, place)
    return found


def _seconds(date: object) -> float:
    if isinstance(date, str):
        return datetime.fromisoformat(date).timestamp()
    if isinstance(date, int | float):
        return _EPOCH_2001 + date
    raise TypeError(f"the date {date!r}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} where text belongs")
    return value


def observed(container: Container, url_host: str | None) -> ObservedSandbox:
    """`url_host` is the host in the URL where it is not the bound address. Raises Permanent as `parse` does."""
    with _known_form():
        return _observed(container, url_host)


def _observed(container: Container, url_host: str | None) -> ObservedSandbox:
    labels = container.labels
    ports = _ports(labels)
    inside = ports["http"][0] if "http" in ports else HTTP_PORT
    at = container.published.get(inside)
    moment = container.created if container.created is not None else container.started
    info = SandboxInfo(
        sandbox_id=container.sandbox_id,
        sandbox_url="" if at is None else url_of(url_host or at[0], at[1]),
        container_name=container.name,
        container_id=container.identity,
        created_at=0.0 if moment is None else float(int(moment)),
        ports={
            name: container.published[number][1]
            for name, (number, _) in ports.items()
            if number in container.published
        },
    )
    return ObservedSandbox(
        info=info,
        phase=_PHASE[container.state],
        owner=owner_of(labels),
        attributes=_attributes(container, ports),
        detail=_detail(container),
    )


def _detail(container: Container) -> str:
    match container.state:
        case "running":
            return ""
        case "stopped":
            return "created, but never started" if container.started is None else "stopped"
        case state:
            return f"the engine says {state}"


def _ports(labels: Mapping[str, str]) -> dict[str, tuple[int, bool]]:
    """Our names for its ports → the port inside and whether we chose the host's."""
    with suppress(*_NONSENSE):  # somebody else's label of that name
        told = json.loads(labels.get(PORTS, "{}"))
        return {name: (int(number), bool(auto)) for name, (number, auto) in told.items()}
    return {}


def _attributes(container: Container, ports: Mapping[str, tuple[int, bool]]) -> dict[str, Scalar]:
    """Live values by canonical path. What the engine shows in another form than it was declared in (capabilities,
    the image's full name) is told as declared: it cannot change on a container."""
    configuration, labels = container.configuration, container.labels
    flat: dict[str, Scalar] = {f"labels.{name}": value for name, value in free_labels(labels).items()}
    for label, path in ((IMAGE, "image"), (THREAD_ID, "thread_id")):
        if label in labels:
            flat[path] = labels[label]
    resources = configuration.get("resources") or {}
    for key, path in (("cpus", "resources.cpu"), ("memoryInBytes", "resources.memory")):
        if key in resources:
            flat[path] = resources[key]
    for key, path in (
        ("shmSize", "resources.shm"),
        ("readOnly", "security.read_only_root"),
        ("useInit", "security.init"),
        ("runtimeHandler", "runtime"),
    ):
        if configuration.get(key) is not None:
            flat[path] = configuration[key]
    user = ((configuration.get("initProcess") or {}).get("user") or {}).get("raw") or {}
    if "userString" in user:
        flat["security.user"] = user["userString"]
    for part in (_environment(container), _network(configuration), _mounts(configuration)):
        flat.update(part)
    for name, (number, auto) in ports.items():
        if number in container.published:
            bind, host = container.published[number]
            flat[f"ports.{name}.container"] = number
            flat[f"ports.{name}.host"] = "auto" if auto else host
            flat[f"ports.{name}.bind"] = bind
    return flat


def _environment(container: Container) -> dict[str, Scalar]:
    """The declared ones only: others are the image's, or secrets."""
    declared: Any = ()
    with suppress(*_NONSENSE):
        declared = frozenset(json.loads(container.labels.get(ENVIRONMENT, "[]")))
    live = (container.configuration.get("initProcess") or {}).get("environment") or []
    pairs = (entry.partition("=") for entry in live)
    return {f"environment.{name}": value for name, _, value in pairs if name in declared}


def _network(configuration: Json) -> dict[str, Scalar]:
    networks = configuration.get("networks")
    if not isinstance(networks, list):
        return {}
    if not networks:
        return {"network.mode": "isolated"}
    first = networks[0]
    name = first.get("network") if isinstance(first, dict) else first
    return {"network.mode": "open", **({"network.name": name} if isinstance(name, str) else {})}


def _mounts(configuration: Json) -> dict[str, Scalar]:
    flat: dict[str, Scalar] = {}
    for mount in configuration.get("mounts") or []:
        target, options, kind = mount["destination"], mount.get("options") or [], mount.get("type") or {}
        if target == SECRETS_DIR:
            continue
        path = f"mounts.{target}"
        flat[f"{path}.read_only"] = "ro" in options
        if "tmpfs" in kind:
            flat[f"{path}.type"] = "tmpfs"
            sizes = [option.removeprefix("size=") for option in options if option.startswith("size=")]
            flat.update({f"{path}.size": int(size) for size in sizes if size.isdecimal()})
        elif "volume" in kind:
            flat |= {f"{path}.type": "volume", f"{path}.source": (kind["volume"] or {}).get("name")}
        else:
            flat[f"{path}.source"] = mount.get("source")
    return flat
