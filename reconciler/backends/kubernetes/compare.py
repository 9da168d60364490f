"""A live pod's fields by canonical path, so that a plan compares what was declared with what is there, and that alone. Pure.

What a cluster fills in (defaults, other ways to write an amount, its own labels) is no difference. What an admission
controller made of our words is one: somebody has to decide whose word counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from reconciler.backends.containers import SECRETS_DIR, THREAD_ID
from reconciler.backends.kubernetes.labelling import free, own
from reconciler.backends.kubernetes.order import CONTAINER, RESTART, SECRETS, SHM, WITH
from reconciler.backends.kubernetes.quantities import cores, size
from reconciler.model.desired import Scalar

Json = Mapping[str, Any]

_ACCOUNT = "/var/run/secrets/kubernetes.io/"  # where a token is put in pods that others made
_RESTART = {"Never": "no", "OnFailure": "on-failure", "Always": "always"}


def attributes(metadata: Json, spec: Json) -> dict[str, Scalar]:
    """Every field that an object's metadata and its pod's specification show; None is "not set"."""
    container = _container(spec)
    security = {**(spec.get("securityContext") or {}), **(container.get("securityContext") or {})}
    limits = (container.get("resources") or {}).get("limits") or {}
    marks = {**own(metadata), **_annotation(metadata, RESTART)}
    found: dict[str, Scalar] = {
        **{f"labels.{key}": value for key, value in free(metadata).items()},
        "image": container.get("image"),
        "entrypoint": _words(container.get("command")),
        "command": _words(container.get("args")),
        "runtime": spec.get("runtimeClassName"),
        "restart": _restart(spec.get("restartPolicy"), marks.get(RESTART)),
        "resources.cpu": cores(limits["cpu"]) if "cpu" in limits else None,
        "resources.memory": size(limits["memory"]) if "memory" in limits else None,
        "security.read_only_root": bool(security.get("readOnlyRootFilesystem")),
        "security.no_new_privileges": security.get("allowPrivilegeEscalation") is False,
        "security.seccomp": _seccomp(security),
        "security.user": _user(security),
        "security.init": bool(spec.get("shareProcessNamespace")),
        **_capabilities(security),
        **_environment(container),
        **_mounts(spec, container),
    }
    if THREAD_ID in marks:
        found["thread_id"] = marks[THREAD_ID]
    for port in container.get("ports") or ():
        if port.get("name"):
            found[f"ports.{port['name']}.container"] = port.get("containerPort")
            found[f"ports.{port['name']}.host"] = "auto"
    return found


def _annotation(metadata: Json, key: str) -> dict[str, str]:
    value = (metadata.get("annotations") or {}).get(key)
    return {} if value is None else {key: str(value)}


def _container(spec: Json) -> Json:
    """Ours among those that a mesh or another injector may have added."""
    containers = spec.get("containers") or ()
    found: Json = next(
        (one for one in containers if one.get("name") == CONTAINER), next(iter(containers), {})
    )
    return found


def _words(words: Any) -> str | None:
    return None if not words else json.dumps([written(str(word)) for word in words], ensure_ascii=False)


def written(text: str) -> str:
    """What arrives in the container of what a manifest says: `$$` is `$`."""
    return re.sub(r"\$\$", "$", text)


def _restart(policy: object, declared: str | None) -> str | None:
    """The declared word where it means this policy: two words mean the same one."""
    live = _RESTART.get(str(policy))
    return declared if declared == "unless-stopped" and live == "always" else live


def _seccomp(security: Json) -> str | None:
    match (security.get("seccompProfile") or {}).get("type"):
        case "RuntimeDefault":
            return "default"
        case "Unconfined" | None:
            return "unconfined"
        case _:
            return str((security.get("seccompProfile") or {}).get("localhostProfile"))


def _user(security: Json) -> str | None:
    if security.get("runAsUser") is None:
        return None
    user, group = security["runAsUser"], security.get("runAsGroup")
    return str(user) if group is None else f"{user}:{group}"


def _capabilities(security: Json) -> dict[str, Scalar]:
    live = security.get("capabilities") or {}
    return {
        f"security.cap_{word}": json.dumps(sorted(str(n).removeprefix("CAP_") for n in live.get(word) or ()))
        for word in ("drop", "add")
    }


def _environment(container: Json) -> dict[str, Scalar]:
    """What is taken from a Secret or from elsewhere is not shown, and no difference."""
    return {
        f"environment.{one['name']}": written(str(one.get("value") or ""))
        for one in container.get("env") or ()
        if "valueFrom" not in one and not _names_a_secret(one)
    }


def _names_a_secret(variable: Json) -> bool:
    name = str(variable["name"])
    return name.endswith("_FILE") and variable.get("value") == f"{SECRETS_DIR}/{name.removesuffix('_FILE')}"


def _mounts(spec: Json, container: Json) -> dict[str, Scalar]:
    volumes = {volume.get("name"): volume for volume in spec.get("volumes") or ()}
    found: dict[str, Scalar] = {"resources.shm": None}
    for held in container.get("volumeMounts") or ():
        volume = volumes.get(held.get("name")) or {}
        memory = volume.get("emptyDir") or {}
        if held.get("name") == SHM:
            found["resources.shm"] = size(memory["sizeLimit"]) if memory.get("sizeLimit") else None
        elif held.get("name") != SECRETS and not str(held.get("mountPath")).startswith(_ACCOUNT):
            path = f"mounts.{held['mountPath']}"
            found[f"{path}.read_only"] = bool(held.get("readOnly"))
            found.update({f"{path}.{key}": value for key, value in _source(volume, memory).items()})
    return found


def _source(volume: Json, memory: Json) -> dict[str, Scalar]:
    if "hostPath" in volume:
        return {"source": volume["hostPath"].get("path")}
    if "persistentVolumeClaim" in volume:
        return {"type": "volume", "source": volume["persistentVolumeClaim"].get("claimName")}
    made: dict[str, Scalar] = {"type": "tmpfs"}
    if memory.get("sizeLimit"):
        made["size"] = size(memory["sizeLimit"])
    return made


def beside(metadata: Json) -> frozenset[str]:
    """The kinds that were made beside an object."""
    text = str((metadata.get("annotations") or {}).get(WITH) or "")
    return frozenset(kind for kind in text.split(",") if kind)
