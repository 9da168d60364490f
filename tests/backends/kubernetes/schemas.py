"""Manifests held against what Kubernetes publishes, strictly: an unknown key is an error. For `Sandbox` a schema of our own."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from tests.support.required import skip_unless

NEWEST, OLDEST = (
    "1.37.0",
    "1.30.0",
)  # the newest that is published, and the oldest that scheduling gates are stable in
_FILES = {
    ("v1", "Pod"): "pod-v1.json",
    ("v1", "Secret"): "secret-v1.json",
    ("v1", "Service"): "service-v1.json",
    ("v1", "Namespace"): "namespace-v1.json",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicy-networking-v1.json",
}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
SANDBOX: dict[str, Any] = {
    # agents.x-k8s.io/v1beta1, as far as it is used here; the pod's specification is held against the pod's own schema.
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "agents.x-k8s.io/v1beta1"},
        "kind": {"const": "Sandbox"},
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["podTemplate"],
            "properties": {
                "operatingMode": {"enum": ["Running", "Suspended"]},
                "service": {"type": "boolean"},
                "shutdownTime": {"type": "string"},
                "shutdownPolicy": {"enum": ["Delete", "Retain"]},
                "podTemplate": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["spec"],
                    "properties": {
                        "metadata": {
                            "type": "object",
                            "additionalProperties": False,
                            "properties": {"labels": _TEXTS, "annotations": _TEXTS},
                        },
                        "spec": {"type": "object"},
                    },
                },
            },
        },
    },
}


def check(manifest: dict[str, Any], version: str = NEWEST) -> None:
    """Raises with every problem."""
    kind = (manifest["apiVersion"], manifest["kind"])
    if kind[1] == "Sandbox":
        spec = manifest["spec"]["podTemplate"]["spec"]
        as_pod = {"apiVersion": "v1", "kind": "Pod", "metadata": manifest["metadata"], "spec": spec}
        problems = [*_problems(_sandbox(), manifest), *_problems(_validator(("v1", "Pod"), version), as_pod)]
    else:
        problems = _problems(_validator(kind, version), manifest)
    assert not problems, problems


def _problems(validator: Any, manifest: dict[str, Any]) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


@functools.cache
def _sandbox() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(SANDBOX)


@functools.cache
def _validator(kind: tuple[str, str], version: str) -> Any:
    try:
        import jsonschema
        import kubernetes_validate
        from referencing import Registry, Resource
    except ImportError:
        skip_unless(False, "kubernetes-validate is not installed (the group `test`)")
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"v{version}-local-strict"
    schema, definitions = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in (_FILES[kind], "_definitions.json")
    )
    registry: Any = Resource.from_contents(definitions) @ (Resource.from_contents(schema) @ Registry())
    return jsonschema.Draft202012Validator(schema, registry=registry)
