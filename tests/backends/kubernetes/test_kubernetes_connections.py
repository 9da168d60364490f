"""No connection is left for the collector to find, however the answer ends."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.backends.kubernetes import KubernetesBackend
from reconciler.errors import BackendError
from reconciler.kubeapi.paced import PacedSocket
from tests.support.kubernetes import hostile
from tests.support.kubernetes.cluster import Cluster

Answer = Callable[[Any, Any], None]


def promised(handler: Any, _request: object) -> None:
    """Less than it says, and the last on this connection: http.client hands the socket over to such an answer."""
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 90\r\n\r\n{"kind":')
    handler.wfile.flush()
    handler.close_connection = True


@pytest.fixture
def unclosed(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """Those that the client connected."""
    made: list[socket.socket] = []
    real = PacedSocket.__init__

    def init(self: PacedSocket, sock: socket.socket, deadline: float) -> None:
        made.append(sock)
        real(self, sock, deadline)

    monkeypatch.setattr(PacedSocket, "__init__", init)
    return made


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(hostile.cut(b'{"kind":"PodList","items":['), id="cut short"),
        pytest.param(promised, id="cut short, the last"),
        pytest.param(hostile.raw(200, b"<html>"), id="nonsense"),
        pytest.param(hostile.hang_up, id="hung up"),
        pytest.param(hostile.refusal(500), id="an error"),
        pytest.param(hostile.refusal(403), id="a refusal"),
    ],
)
def test_every_one_is_closed_by_whoever_opened_it(
    kube_fake: Cluster, tmp_path: Path, answer: Answer, unclosed: list[socket.socket]
) -> None:
    backend = KubernetesBackend(str(kube_fake.kubeconfig(tmp_path / "kubeconfig")), image="aio")
    gc.disable()  # it would close them, and hide that nobody else did
    try:
        kube_fake.misbehave(answer, "/pods")
        with pytest.raises(BackendError) as held:  # and with it all that its frames refer to
            backend.observe()
        backend.close()
        assert [sock for sock in unclosed if sock.fileno() != -1] == []
    finally:
        gc.enable()
    assert unclosed
    assert held
