"""One question to a port of a pod through the API server, for those that nothing else leads to from here.

What a kubelet asks is never asked this way: only what it cannot ask, or does not ask yet.
"""

from __future__ import annotations

import contextlib

from reconciler.backends.base import ProbeAnswer
from reconciler.backends.containers import HTTP_PORT
from reconciler.backends.kubernetes.cluster import Cluster
from reconciler.backends.kubernetes.look import Found, ports_of
from reconciler.errors import BackendError
from reconciler.kubeapi.websocket import FORWARD_FAILED, FORWARDED
from reconciler.model.desired import ProbeKind, Readiness

_REFUSED_WITHIN = 1.0  # seconds after which a port that was not refused is open
_OF_THE_PORT = 2  # bytes that begin each stream
_LONGEST_LINE = 1024  # bytes of a status line


def ask(cluster: Cluster, found: Found, readiness: Readiness, timeout: float) -> ProbeAnswer | None:
    """Whether it answers as it should. None for what is asked by a command, or not at all."""
    if readiness.kind not in (ProbeKind.HTTP, ProbeKind.TCP):
        return None
    port = ports_of(found.pod_spec).get(readiness.port or "http", HTTP_PORT)
    try:
        if readiness.kind is ProbeKind.HTTP:
            return _http(cluster, found.pod_name, port, readiness, timeout)
        return _tcp(cluster, found.pod_name, port, min(timeout, _REFUSED_WITHIN))
    except BackendError as error:
        return ProbeAnswer(ready=False, detail=error.message)


def _http(cluster: Cluster, pod: str, port: int, readiness: Readiness, timeout: float) -> ProbeAnswer:
    request = f"GET {readiness.path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    try:
        said = _answer(cluster, pod, port, request.encode(), timeout)
    except TimeoutError:
        return ProbeAnswer(ready=False, detail=f"no answer within {timeout:.1f}s")
    if isinstance(said, ProbeAnswer):
        return said
    words = said.decode("latin-1").split(" ")
    if not words[0].startswith("HTTP/") or len(words) < 2 or not words[1].isdigit():
        return ProbeAnswer(ready=False, detail="what answers speaks no HTTP")
    return ProbeAnswer(
        ready=int(words[1]) == readiness.expect,
        detail="" if int(words[1]) == readiness.expect else f"HTTP {words[1]}",
    )


def _tcp(cluster: Cluster, pod: str, port: int, timeout: float) -> ProbeAnswer:
    with contextlib.suppress(TimeoutError):  # it is open, and waits for what we have to say
        said = _answer(cluster, pod, port, b"", timeout)
        if isinstance(said, ProbeAnswer):
            return said
    return ProbeAnswer(ready=True)


def _answer(cluster: Cluster, pod: str, port: int, sent: bytes, timeout: float) -> bytes | ProbeAnswer:
    """The first line that comes back, or why none does. Raises TimeoutError when nothing is said at all."""
    heard = {FORWARDED: b"", FORWARD_FAILED: b""}
    with contextlib.closing(cluster.forwarded(pod, port, sent, timeout)) as messages:
        for stream, content in messages:
            heard[stream] = heard.get(stream, b"") + content
            failed = heard[FORWARD_FAILED][_OF_THE_PORT:]
            if failed:
                return ProbeAnswer(
                    ready=False, detail=" ".join(failed[:_LONGEST_LINE].decode(errors="replace").split())
                )
            line, ends, _ = heard[FORWARDED][_OF_THE_PORT:].partition(b"\r\n")
            if ends or len(line) > _LONGEST_LINE:
                return line
    return heard[FORWARDED][_OF_THE_PORT:]
