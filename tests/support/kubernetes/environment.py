"""A container's environment as the kubelet puts it together, from values, Secrets, ConfigMaps and the pod itself."""

from __future__ import annotations

import base64
import re

from tests.support.kubernetes.refusals import Json
from tests.support.kubernetes.storage import Storage


class Missing(Exception):
    """Something that the container needs is not there."""


def environment(storage: Storage, pod: Json, container: Json, address: str) -> dict[str, str]:
    """Raises Missing. Hold the storage's lock."""
    found: dict[str, str] = {}
    namespace = pod["metadata"]["namespace"]
    for source in container.get("envFrom") or ():
        for kind, plural in (("secretRef", "secrets"), ("configMapRef", "configmaps")):
            if ref := source.get(kind):
                data = _data(storage, plural, namespace, ref)
                found.update({source.get("prefix", "") + name: value for name, value in data.items()})
    for variable in container.get("env") or ():
        if source := variable.get("valueFrom"):
            value = _from(storage, pod, source, address)
            if value is not None:
                found[variable["name"]] = value
        else:
            text = variable.get("value", "")
            found[variable["name"]] = re.sub(
                r"\$\$|\$\(([^)]+)\)",
                lambda match: "$" if match[0] == "$$" else found.get(match[1], match[0]),
                text,
            )
    for volume in pod["spec"].get("volumes") or ():
        if (secret := volume.get("secret")) and not secret.get("optional"):
            _data(storage, "secrets", namespace, {"name": secret["secretName"]})
    return found


def _from(storage: Storage, pod: Json, source: Json, address: str) -> str | None:
    namespace = pod["metadata"]["namespace"]
    for kind, plural in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
        if ref := source.get(kind):
            data = _data(storage, plural, namespace, ref)
            if ref["key"] in data:
                return data[ref["key"]]
            if ref.get("optional"):
                return None
            what = "Secret" if plural == "secrets" else "ConfigMap"
            raise Missing(f"couldn't find key {ref['key']} in {what} {namespace}/{ref['name']}")
    if ref := source.get("fieldRef"):
        at: object = {**pod, "status": {**pod.get("status", {}), "podIP": address}}
        for name in ref["fieldPath"].split("."):
            at = at.get(name, "") if isinstance(at, dict) else ""
        return str(at)
    return ""


def _data(storage: Storage, plural: str, namespace: str, ref: Json) -> dict[str, str]:
    thing = storage.get((plural, namespace, ref["name"]))
    if thing is None:
        if ref.get("optional"):
            return {}
        raise Missing(f'{plural.removesuffix("s")} "{ref["name"]}" not found')
    data: dict[str, str] = thing.get("data") or {}
    if plural == "secrets":
        return {name: base64.b64decode(value).decode() for name, value in data.items()}
    return data
