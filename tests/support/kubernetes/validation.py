"""What the server refuses in an object (422 Invalid), with the messages that it gives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.support.kubernetes.defaults import amount
from tests.support.kubernetes.refusals import Json

Cause = tuple[str, str, str]  # field, reason, message

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_LABEL_NAMED = ("Namespace", "Service")


def _bad(path: str, value: object, why: str) -> Cause:
    return (path, "FieldValueInvalid", f"Invalid value: {_shown(value)}: {why}")


def _needed(path: str, why: str = "") -> Cause:
    return (path, "FieldValueRequired", "Required value" + (f": {why}" if why else ""))


def _twice(path: str, value: object) -> Cause:
    return (path, "FieldValueDuplicate", f"Duplicate value: {_shown(value)}")


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def new(thing: Json) -> list[Cause]:
    """Everything that is wrong with an object that is to be stored."""
    causes = list(_metadata(thing))
    spec = thing.get("spec") or {}
    match thing.get("kind"):
        case "Pod":
            causes += pod_spec(spec, "spec")
        case "Sandbox":
            template = (spec.get("podTemplate") or {}).get("spec")
            if template is None:
                causes.append(_needed("spec.podTemplate"))
            elif not template.get("containers"):
                causes.append(_needed("spec.podTemplate.spec.containers"))
        case "Service":
            causes += _service(spec)
        case "Secret":
            causes += _secret(thing)
        case "PersistentVolumeClaim":
            if not spec.get("accessModes"):
                causes.append(_needed("spec.accessModes", "at least 1 access mode is required"))
            if "storage" not in (spec.get("resources") or {}).get("requests", {}):
                causes.append(_needed("spec.resources[storage]"))
        case "Lease":
            seconds = spec.get("leaseDurationSeconds")
            if seconds is not None and seconds <= 0:
                causes.append(_bad("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    return causes


def _metadata(thing: Json) -> Iterator[Cause]:
    metadata = thing["metadata"]
    name = metadata.get("name", "")
    if not name:
        yield _needed("metadata.name", "name or generateName is required")
    elif thing["kind"] in _LABEL_NAMED:
        if len(name) > 63:
            yield _bad("metadata.name", name, "must be no more than 63 characters")
        if not _LABEL.fullmatch(name):
            yield _bad("metadata.name", name, _LABEL_RULE)
    else:
        if len(name) > 253:
            yield _bad("metadata.name", name, "must be no more than 253 characters")
        if not _SUBDOMAIN.fullmatch(name):
            yield _bad("metadata.name", name, _SUBDOMAIN_RULE)
    for key, value in (metadata.get("labels") or {}).items():
        yield from _key(key, "metadata.labels")
        if len(value) > 63:
            yield _bad("metadata.labels", value, "must be no more than 63 characters")
        elif not _VALUE.fullmatch(value):
            yield _bad("metadata.labels", value, _VALUE_RULE)
    annotations = metadata.get("annotations") or {}
    for key in annotations:
        yield from _key(key.lower(), "metadata.annotations")
    if sum(len(key) + len(value) for key, value in annotations.items()) > 256 * 1024:
        yield ("metadata.annotations", "FieldValueTooLong", "Too long: must have at most 262144 bytes")
    for at, owner in enumerate(metadata.get("ownerReferences") or ()):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield _bad(
                    f"metadata.ownerReferences[{at}].{field}", owner.get(field, ""), "must not be empty"
                )


def _key(key: str, path: str) -> Iterator[Cause]:
    prefix, slash, name = key.rpartition("/")
    if slash and not _SUBDOMAIN.fullmatch(prefix):
        yield _bad(path, key, f"prefix part {_SUBDOMAIN_RULE}")
    if len(name) > 63 or not _QUALIFIED.fullmatch(name):
        yield _bad(path, key, "name part must consist of alphanumeric characters, '-', '_' or '.'")


def pod_spec(spec: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    volumes: set[str] = set()
    for at, volume in enumerate(spec.get("volumes") or ()):
        where = f"{path}.volumes[{at}].name"
        if not _LABEL.fullmatch(volume.get("name", "")):
            causes.append(_bad(where, volume.get("name", ""), _LABEL_RULE))
        elif volume["name"] in volumes:
            causes.append(_twice(where, volume["name"]))
        volumes.add(volume.get("name", ""))
    containers = spec.get("containers") or []
    if not containers:
        causes.append(_needed(f"{path}.containers"))
    names: set[str] = set()
    for at, container in enumerate(containers):
        where = f"{path}.containers[{at}]"
        name = container.get("name", "")
        if not name:
            causes.append(_needed(f"{where}.name"))
        elif not _LABEL.fullmatch(name):
            causes.append(_bad(f"{where}.name", name, _LABEL_RULE))
        elif name in names:
            causes.append(_twice(f"{where}.name", name))
        names.add(name)
        causes += _container(container, where, volumes)
    if spec.get("restartPolicy") not in ("Always", "OnFailure", "Never"):
        causes.append(
            _unsupported(f"{path}.restartPolicy", spec.get("restartPolicy"), "Always OnFailure Never")
        )
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        causes.append(
            _bad(
                f"{path}.terminationGracePeriodSeconds",
                spec["terminationGracePeriodSeconds"],
                "must be greater than or equal to 0",
            )
        )
    return causes


def _unsupported(path: str, value: object, known: str) -> Cause:
    listed = ", ".join(f'"{one}"' for one in known.split())
    return (
        path,
        "FieldValueNotSupported",
        f"Unsupported value: {_shown(value)}: supported values: {listed}",
    )


def _container(container: Json, path: str, volumes: set[str]) -> Iterator[Cause]:
    if not container.get("image"):
        yield _needed(f"{path}.image")
    if container.get("imagePullPolicy") not in ("Always", "IfNotPresent", "Never"):
        yield _unsupported(
            f"{path}.imagePullPolicy", container.get("imagePullPolicy"), "Always IfNotPresent Never"
        )
    for at, port in enumerate(container.get("ports") or ()):
        if not 0 < (port.get("containerPort") or 0) < 65536:
            where = f"{path}.ports[{at}].containerPort"
            yield (
                _bad(where, port["containerPort"], "must be between 1 and 65535, inclusive")
                if port.get("containerPort")
                else _needed(where)
            )
        if len(port.get("name", "")) > 15:
            yield _bad(f"{path}.ports[{at}].name", port["name"], "must be no more than 15 characters")
    for at, variable in enumerate(container.get("env") or ()):
        if not variable.get("name"):
            yield _needed(f"{path}.env[{at}].name")
    for at, mount in enumerate(container.get("volumeMounts") or ()):
        if mount.get("name") not in volumes:
            yield (
                f"{path}.volumeMounts[{at}].name",
                "FieldValueNotFound",
                f"Not found: {_shown(mount.get('name', ''))}",
            )
        if not mount.get("mountPath"):
            yield _needed(f"{path}.volumeMounts[{at}].mountPath")
    yield from _resources(container.get("resources") or {}, f"{path}.resources")


def _resources(resources: Json, path: str) -> Iterator[Cause]:
    limits = resources.get("limits") or {}
    for part in ("limits", "requests"):
        for name, value in (resources.get(part) or {}).items():
            if amount(value) < 0:
                yield _bad(f"{path}.{part}[{name}]", str(value), "must be greater than or equal to 0")
    for name, value in (resources.get("requests") or {}).items():
        if name in limits and amount(value) > amount(limits[name]):
            yield _bad(f"{path}.requests", str(value), f"must be less than or equal to {name} limit")


def _service(spec: Json) -> Iterator[Cause]:
    kind = spec.get("type")
    if kind not in ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"):
        yield _unsupported("spec.type", kind, "ClusterIP ExternalName LoadBalancer NodePort")
    ports = spec.get("ports") or []
    if not ports and spec.get("clusterIP") != "None" and kind != "ExternalName":
        yield _needed("spec.ports")
    names: set[str] = set()
    for at, port in enumerate(ports):
        if len(ports) > 1 and not port.get("name"):
            yield _needed(f"spec.ports[{at}].name")
        elif port.get("name") in names:
            yield _twice(f"spec.ports[{at}].name", port.get("name"))
        names.add(port.get("name", ""))
        if not 0 < (port.get("port") or 0) < 65536:
            yield _bad(
                f"spec.ports[{at}].port", port.get("port", 0), "must be between 1 and 65535, inclusive"
            )


def _secret(thing: Json) -> Iterator[Cause]:
    data = thing.get("data") or {}
    for key in data:
        if not re.fullmatch(r"[-._a-zA-Z0-9]+", key):
            yield _bad(
                f"data[{key}]",
                key,
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
                "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
            )
    if sum(len(value) * 3 // 4 for value in data.values()) > 1024 * 1024:
        yield ("data", "FieldValueTooLong", "Too long: must have at most 1048576 bytes")


def update(before: Json, after: Json) -> list[Cause]:
    """What may not change."""
    causes = [
        _bad(f"metadata.{field}", after["metadata"].get(field, ""), "field is immutable")
        for field in ("name", "namespace", "uid")
        if field in after["metadata"] and after["metadata"][field] != before["metadata"].get(field)
    ]
    old, now = before.get("spec") or {}, after.get("spec") or {}
    match after["kind"]:
        case "Pod":
            gates = old.get("schedulingGates") or []
            if any(gate not in gates for gate in now.get("schedulingGates") or ()):
                causes.append(
                    (
                        "spec.schedulingGates",
                        "FieldValueForbidden",
                        "Forbidden: only deletion is allowed, but found new scheduling gate",
                    )
                )
            if _frozen(old) != _frozen(now):
                causes.append(
                    (
                        "spec",
                        "FieldValueForbidden",
                        (
                            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
                            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions "
                            "to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it "
                            "was previously negative)"
                        ),
                    )
                )
        case "Service":
            if old.get("clusterIP") != now.get("clusterIP"):
                causes.append(_bad("spec.clusterIPs[0]", [now.get("clusterIP")], "may not change once set"))
        case "Secret":
            if before.get("immutable") and before.get("data") != after.get("data"):
                causes.append(
                    ("data", "FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set")
                )
            if before.get("type") != after.get("type"):
                causes.append(_bad("type", after.get("type", ""), "field is immutable"))
        case "PersistentVolumeClaim":
            if {**old, "resources": None, "volumeName": None} != {
                **now,
                "resources": None,
                "volumeName": None,
            }:
                causes.append(
                    (
                        "spec",
                        "FieldValueForbidden",
                        (
                            "Forbidden: spec is immutable after creation except resources.requests and "
                            "volumeAttributesClassName for bound claims"
                        ),
                    )
                )
    return causes


def _frozen(spec: Json) -> Json:
    out: dict[str, Any] = {
        name: value
        for name, value in spec.items()
        if name not in ("activeDeadlineSeconds", "tolerations", "schedulingGates")
    }
    for part in ("containers", "initContainers"):
        out[part] = [{**container, "image": ""} for container in spec.get(part) or ()]
    return out
