"""What the server adds to an object before it stores it, so that what comes back is not what was sent.

As observed on a real server. Quantities are written in their canonical form.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.support.kubernetes.refusals import Json

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6, "G": Decimal(10) ** 9, "T": Decimal(10) ** 12, "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?[0-9.]+)([eE][+-]?[0-9]+|Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|)")


def amount(text: object) -> Decimal:
    """A quantity as a number. Raises ValueError."""
    found = _QUANTITY.fullmatch(str(text))
    if not found:
        raise ValueError(f"quantities must match the regular expression: {text!r}")
    number, suffix = found.groups()
    if suffix in _BINARY:
        return Decimal(number) * _BINARY[suffix]
    if suffix in _DECIMAL:
        return Decimal(number) * _DECIMAL[suffix]
    return Decimal(number + suffix)


def canonical(text: object) -> str:
    """A quantity as the server writes it back: `1024Mi` is `1Gi`, `1000m` is `1`."""
    found = _QUANTITY.fullmatch(str(text))
    if not found:
        return str(text)
    value = amount(text)
    if value == 0:
        return "0"
    if found[2] in _BINARY and value == int(value):
        for suffix, size in reversed(_BINARY.items()):
            if int(value) % size == 0:
                return f"{int(value) // size}{suffix}"
        return str(int(value))
    if found[2][:1] in ("e", "E") and len(found[2]) > 1:
        return str(text)
    for suffix in ("E", "P", "T", "G", "M", "k", "", "m", "u", "n"):
        scaled = value / _DECIMAL[suffix]
        if scaled == int(scaled):
            return f"{int(scaled)}{suffix}"
    return str(text)


def _quantities(table: Json | None) -> None:
    for name in table or {}:
        table[name] = canonical(table[name])  # type: ignore[index]


def pod(thing: Json) -> None:
    pod_spec(thing.setdefault("spec", {}))


def pod_spec(spec: Json, *, template: bool = False) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    if not template:
        spec.setdefault("enableServiceLinks", True)
    for volume in spec.get("volumes") or ():
        _volume(volume)
    host = bool(spec.get("hostNetwork"))
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        if isinstance(container, dict):
            _container(container, host)


def _volume(volume: Json) -> None:
    if set(volume) <= {"name"}:
        volume["emptyDir"] = {}
    for kind in ("secret", "configMap", "projected", "downwardAPI"):
        if volume.get(kind) is not None:
            volume[kind].setdefault("defaultMode", 420)
    if volume.get("hostPath") is not None:
        volume["hostPath"].setdefault("type", "")
    if volume.get("emptyDir", {}).get("sizeLimit") is not None:
        volume["emptyDir"]["sizeLimit"] = canonical(volume["emptyDir"]["sizeLimit"])


def _container(container: Json, host: bool) -> None:
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("imagePullPolicy", _pull_policy(str(container.get("image", ""))))
    resources = container.setdefault("resources", {})
    _quantities(resources.get("limits"))
    _quantities(resources.get("requests"))
    if resources.get("limits"):
        asked = resources.setdefault("requests", {})
        for name, value in resources["limits"].items():
            asked.setdefault(name, value)
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if host and port.get("containerPort"):
            port.setdefault("hostPort", port["containerPort"])
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name) is not None:
            _probe(container[name])
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        if source.get("fieldRef") is not None:
            source["fieldRef"].setdefault("apiVersion", "v1")


def _pull_policy(image: str) -> str:
    name = image.rpartition("/")[2]
    if "@" in name:
        return "IfNotPresent"
    tag = name.partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _probe(probe: Json) -> None:
    probe.setdefault("timeoutSeconds", 1)
    probe.setdefault("periodSeconds", 10)
    probe.setdefault("successThreshold", 1)
    probe.setdefault("failureThreshold", 3)
    if probe.get("httpGet") is not None:
        probe["httpGet"].setdefault("path", "/")
        probe["httpGet"].setdefault("scheme", "HTTP")
    if probe.get("initialDelaySeconds") == 0:
        del probe["initialDelaySeconds"]


def service(thing: Json) -> None:
    spec = thing.setdefault("spec", {})
    spec.setdefault("sessionAffinity", "None")
    spec.setdefault("type", "ClusterIP")
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")


def secret(thing: Json) -> None:
    thing.setdefault("type", "Opaque")
    plain = thing.pop("stringData", None)
    if plain:
        data = thing.setdefault("data", {})
        data.update({name: base64.b64encode(value.encode()).decode() for name, value in plain.items()})


def policy(thing: Json) -> None:
    spec = thing.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    for rule in (*(spec.get("ingress") or ()), *(spec.get("egress") or ())):
        for port in rule.get("ports") or ():
            port.setdefault("protocol", "TCP")


def claim(thing: Json) -> None:
    spec = thing.setdefault("spec", {})
    spec.setdefault("volumeMode", "Filesystem")
    _quantities(spec.get("resources", {}).get("requests"))
    thing.setdefault("status", {}).setdefault("phase", "Pending")


def namespace(thing: Json) -> None:
    thing.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    thing.setdefault("status", {}).setdefault("phase", "Active")
    thing["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = thing["metadata"].get("name")


def sandbox(thing: Json) -> None:
    spec = thing.setdefault("spec", {})
    spec.setdefault("operatingMode", "Running")
    spec.setdefault("shutdownPolicy", "Retain")


def deployment(thing: Json) -> None:
    spec = thing.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {"maxUnavailable": "25%", "maxSurge": "25%"})
    pod_spec(spec.setdefault("template", {}).setdefault("spec", {}), template=True)


_BY_KIND: dict[str, Callable[[Any], None]] = {
    "Deployment": deployment,
    "Namespace": namespace,
    "NetworkPolicy": policy,
    "PersistentVolumeClaim": claim,
    "Pod": pod,
    "Sandbox": sandbox,
    "Secret": secret,
    "Service": service,
}


def fill(thing: Json) -> None:
    """In place, by the object's kind."""
    if by := _BY_KIND.get(thing.get("kind", "")):
        by(thing)
    _drop_nulls(thing)


def _drop_nulls(value: Any) -> None:
    """A null is an absent field once it went through the server's types."""
    if isinstance(value, dict):
        for name in [name for name, part in value.items() if part is None]:
            del value[name]
        for part in value.values():
            _drop_nulls(part)
    elif isinstance(value, list):
        for part in value:
            _drop_nulls(part)
