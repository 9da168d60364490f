"""What a refusal means: whether to try again, whether it says that something is not there, and what to do."""

from __future__ import annotations

import pytest

from reconciler.backends.kubernetes.failures import failure
from reconciler.errors import BackendError, Conflict, NotFound, Permanent, Transient, Unavailable
from reconciler.kubeapi.failures import Exists, Refusal

POD = {"reason": "NotFound", "kind": "pods", "about": "reconciler-a"}


@pytest.mark.parametrize(
    ("refusal", "kind", "words"),
    [
        (Refusal(status=404, message='pods "reconciler-a" not found', **POD), NotFound, "not found"),  # type: ignore[arg-type]
        (Refusal(status=404, message="404 page not found"), Unavailable, "is that an API server?"),
        (Refusal(status=404, reason="NotFound", message="no", about="another"), Unavailable, "about no object"),
        (Refusal(status=409, reason="AlreadyExists", message="taken"), Exists, "taken"),
        (Refusal(status=409, reason="Conflict", message="Operation cannot be fulfilled: the object has been modified"), Transient, "modified"),
        (Refusal(status=409, reason="Conflict", message="Precondition failed: UID in precondition: a, UID in object meta: b"), Conflict, "UID"),
        (Refusal(status=403, message='pods "a" is forbidden: exceeded quota: q, requested: pods=1'), Transient, "quota is used up"),
        (Refusal(status=403, message='pods "a" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'), Permanent, "pod security standard"),
        (Refusal(status=400, message='admission webhook "x" denied the request: no'), Permanent, "ask who runs it"),
        (Refusal(status=403, message='pods is forbidden: User "u" cannot list resource "pods"'), Permanent, "ask for a Role"),
        (Refusal(status=403, message='pods "a" is forbidden: pod rejected: RuntimeClass "gvisor" not found'), Permanent, "kubectl get runtimeclass"),
        (Refusal(status=422, message="spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"), Conflict, "host: auto"),
        (Refusal(status=422, message="spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range"), Permanent, "30000"),
        (Refusal(status=401, message="Unauthorized"), Permanent, "log in again"),
        (Refusal(status=429, message="slow down", retry_after=3.0), Transient, "busy"),
        (Refusal(status=500, message='failed calling webhook "x": timeout'), Transient, "webhook"),
        (Refusal(status=503), Transient, "HTTP 503"),
    ],
    ids=lambda value: value.message[:40] if isinstance(value, Refusal) else None,
)  # fmt: skip
def test_a_refusal_is_told_for_what_it_is(refusal: Refusal, kind: type[BackendError], words: str) -> None:
    error = failure(refusal, what="pods", name="reconciler-a", server="https://c")
    assert type(error) is kind
    assert words in f"{error.message} {error.hint}"
    if isinstance(error, Transient) and refusal.retry_after:
        assert error.retry_after == refusal.retry_after


def test_a_kind_that_the_cluster_does_not_know_is_no_absence() -> None:
    refusal = Refusal(
        status=404, message="the server could not find the requested resource", reason="NotFound"
    )
    error = failure(refusal, what="sandboxes", name="", server="https://c")
    assert type(error) is Permanent
    assert "install agent-sandbox" in error.hint
