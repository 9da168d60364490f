"""What is asked of a running pod beyond its life: logs and commands; and how the cluster is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconciler.backends.base import ExecResult
from reconciler.backends.kubernetes import metrics
from reconciler.backends.kubernetes.cluster import Cluster
from reconciler.backends.kubernetes.look import Found
from reconciler.backends.kubernetes.order import CONTAINER
from reconciler.errors import BackendError, NotFound, Permanent, Transient

_CANNOT_RUN = 127  # what a shell answers for a program that is not there
_NO_PROGRAM = ("executable file not found", "no such file or directory", "OCI runtime exec failed", "stat ")
_NOT_BEGUN = ("is waiting to start", "does not have a host assigned", "ContainerCreating")


def logs(cluster: Cluster, found: Found, *, tail: int | None, follow: bool) -> Iterator[str]:
    """Oldest first. Of one that has not begun yet there are none. To follow is to wait without end."""
    query = {"container": container(found)}
    if tail is not None:
        query["tailLines"] = str(tail)
    if follow:
        query["follow"] = "true"
    if tail == 0 and not follow:
        return
    try:
        yield from cluster.lines(found.pod_name, query)
    except NotFound:
        if not found.is_sandbox:
            raise
        return  # whose pod is not made yet
    except Permanent as error:
        if not any(words in error.message for words in _NOT_BEGUN):
            raise


def run(cluster: Cluster, found: Found, command: Sequence[str], timeout: float) -> ExecResult:
    """A command in the sandbox's container. `timeout` seconds end the wait: a cluster has no way to end the command."""
    try:
        out, err, status = cluster.command(found.pod_name, container(found), command, timeout)
    except TimeoutError as error:
        raise Transient(f"the command did not end within {timeout:g} s", retry_after=None) from error
    except (Permanent, Transient) as error:
        if any(words in error.message for words in (*_NOT_BEGUN, "container not found", "unable to upgrade")):
            raise NotFound(f"sandbox {found.sandbox_id} is not running: {error.message}") from error
        raise
    return _result(out.decode(errors="replace"), err.decode(errors="replace"), status)


def _result(out: str, err: str, status: Mapping[str, Any]) -> ExecResult:
    if status.get("status") == "Success":
        return ExecResult(exit_code=0, stdout=out, stderr=err)
    causes = (status.get("details") or {}).get("causes") or ()
    code = next((str(cause.get("message")) for cause in causes if cause.get("reason") == "ExitCode"), "")
    message = str(status.get("message") or "")
    if any(words in message for words in _NO_PROGRAM):
        return ExecResult(exit_code=_CANNOT_RUN, stdout=out, stderr=err or message)
    if code in ("126", "127") and "OCI runtime exec failed" in out + err:
        return ExecResult(exit_code=_CANNOT_RUN, stdout="", stderr=(out + err).strip())
    if code.isascii() and code.isdigit():
        return ExecResult(exit_code=int(code), stdout=out, stderr=err)
    raise Transient(f"nobody knows how the command ended: {message or 'the stream broke off'}")


def container(found: Found) -> str:
    """Ours, or the first of a pod that others made."""
    names = [str(one.get("name")) for one in found.pod_spec.get("containers") or ()]
    return CONTAINER if CONTAINER in names or not names else names[0]


def check(cluster: Cluster, kind: str) -> Sequence[tuple[str, bool, str]]:
    """For `doctor`: can it be reached, and may we look at what we have to."""
    try:
        version = cluster.version()
    except BackendError as error:
        return (("cluster", False, _told(error)),)
    rows = [("cluster", True, f"Kubernetes {version} at {cluster.server}, namespace {cluster.namespace}")]
    for what in dict.fromkeys((kind, "Pod", "Service", "NetworkPolicy")):
        try:
            next(iter(cluster.items(what, "sandbox-reconciler/sandbox-id=none")), None)
            rows.append((what, True, "can be listed"))
        except BackendError as error:
            rows.append((what, False, _told(error)))
    return (*rows, metrics.row(cluster))


def _told(error: BackendError) -> str:
    return f"{error.message}\n{error.hint}" if error.hint else error.message
