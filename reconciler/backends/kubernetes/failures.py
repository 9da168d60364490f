"""What an API server's refusals mean for a sandbox, by their words; what they mean for anything `kubeapi` says. Pure."""

from __future__ import annotations

import re

from reconciler.errors import BackendError, Conflict, NotFound, Permanent
from reconciler.kubeapi import failures
from reconciler.kubeapi.failures import Refusal

_HINTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"violates PodSecurity", re.IGNORECASE),
        "the namespace's pod security standard forbids that: change `security:`, or use another namespace",
    ),
    (re.compile(r"admission webhook|denied the request", re.IGNORECASE), "a policy of the cluster refuses it: ask who runs it"),
    (re.compile(r"RuntimeClass .* not found", re.IGNORECASE), "`kubectl get runtimeclass` shows which there are; or leave out `runtime`"),
    (re.compile(r"not in the valid range", re.IGNORECASE), "use a port of the cluster's range (30000 to 32767), or `host: auto`"),
    (re.compile(r"provided port is already allocated", re.IGNORECASE), "another service has that port: use `host: auto`, or free it"),
)  # fmt: skip


def failure(refusal: Refusal, *, what: str, name: str, server: str) -> BackendError:
    """`what` is the plural of the kind that was asked about, `name` the object's, "" for a listing or a creation."""
    text = refusal.text
    hint = next((hint for pattern, hint in _HINTS if pattern.search(text)), "")
    found = failures.failure(
        refusal, what=what, name=name, server=server, hint=hint, roles="docs/backends.md"
    )
    if refusal.status == 404 and what == "sandboxes" and not isinstance(found, NotFound):
        return Permanent(
            f"the cluster at {server} knows no agents.x-k8s.io/v1beta1: {text}",
            hint="install agent-sandbox (https://agent-sandbox.sigs.k8s.io), or use `api: pod`",
        )
    if isinstance(found, Permanent) and "port is already allocated" in text:
        return Conflict(text, hint=hint)
    return found
