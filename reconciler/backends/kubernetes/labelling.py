"""Labels of ownership on a cluster's objects. Pure.

A label's value may hold 63 characters of a small alphabet; what does not fit becomes an annotation of the same name.
The user's labels are kept whole in one annotation as well, so that what leaves the YAML can be taken off again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from reconciler.backends.containers import MANAGED_BY, PREFIX, SANDBOX_ID, labels_of
from reconciler.model.desired import SandboxSpec

LABELS = f"{PREFIX}labels"  # annotation: the declared labels, as JSON
SELECTOR = f"{MANAGED_BY}=reconciler"
WARM_POOL = "agents.x-k8s.io/warm-pool-sandbox"  # label: a pool's own, never ours to touch
_WORD = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_VALUE = re.compile(rf"(?:{_WORD})?")
_KEY = re.compile(rf"(?:(?=[^/]{{1,253}}/)[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?/)?{_WORD}")

Marks = tuple[dict[str, str], dict[str, str]]
"""Labels and annotations."""


def marks(sandbox_id: str, spec: SandboxSpec, thread_id: str | None) -> Marks:
    """What an object of this sandbox carries; the same for the same sandbox."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    for key, value in labels_of(sandbox_id, spec.owner, thread_id).items():
        (labels if _VALUE.fullmatch(value) else annotations)[key] = value
    labels |= {key: value for key, value in spec.labels.items() if fits(key, value)}
    if spec.labels:
        annotations[LABELS] = json.dumps(dict(sorted(spec.labels.items())), ensure_ascii=False)
    return labels, annotations


def fits(key: str, value: str) -> bool:
    """Whether a cluster takes this as a label."""
    return bool(_KEY.fullmatch(key) and _VALUE.fullmatch(value))


def own(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Our labels, wherever each was put."""
    return {
        key: str(value)
        for place in ("annotations", "labels")
        for key, value in (metadata.get(place) or {}).items()
        if key.startswith(PREFIX) and key != LABELS
    }


def declared(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The user's labels as they were last put on the object; {} when nobody can tell."""
    with suppress(ValueError, TypeError, AttributeError, RecursionError):
        found = json.loads((metadata.get("annotations") or {}).get(LABELS) or "{}")
        return {str(key): str(value) for key, value in found.items()}
    return {}


def free(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Everybody else's labels as they live, those that no label can hold included."""
    live = {k: str(v) for k, v in (metadata.get("labels") or {}).items() if not k.startswith(PREFIX)}
    return {**{key: value for key, value in declared(metadata).items() if not fits(key, value)}, **live}


def is_ours(metadata: Mapping[str, Any], sandbox_id: str) -> bool:
    """By labels alone: a name never says whose it is."""
    labels = metadata.get("labels") or {}
    return MANAGED_BY in labels and labels.get(SANDBOX_ID) == sandbox_id
