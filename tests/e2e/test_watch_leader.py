"""Two real watches of one stack on one API server, of which one leads: killed, stopped for a while, told to end."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Folder, folder
from tests.support.kubernetes.cluster import Cluster
from tests.support.watching import Watching

LEASES = "leases.coordination.k8s.io"
LEASE = "reconciler-state-led.watch"
STATE = "state: {{store: kubernetes, namespace: agents, kubeconfig: {kubeconfig}}}\n"
BODY = """sandboxes:
  web: {image: "aio:1", replicas: 2}
"""


@pytest.fixture
def here(tmp_path: Path, kube_fake: Cluster) -> Iterator[Folder]:
    kubeconfig = kube_fake.kubeconfig(tmp_path / "kubeconfig")
    kube_fake.make("v1", "Namespace", "agents")
    options = {
        "type": "kubernetes",
        "kubeconfig": str(kubeconfig),
        "namespace": "agents",
        "stop_timeout": "1s",
    }
    with folder(tmp_path) as made:
        made.write(
            f"version: 1\nstack: led\n{STATE.format(kubeconfig=kubeconfig)}"
            f"backends: {{cluster: {json.dumps(options)}}}\ndefaults: {{backend: cluster}}\n{BODY}"
        )
        made("apply", "--auto-approve")
        yield made


@contextmanager
def candidate(here: Folder, *args: str) -> Iterator[Watching]:
    """A watch that may lead; it has told whether it does. Not killed, it ends well."""
    made = Watching(here.start("watch", "--json", "--interval", "1s", "--leader-elect", *args))
    try:
        made.until("leadership")
        yield made
    finally:
        code = made.end()
    assert code in (0, -signal.SIGKILL), made.errors
    assert "Traceback" not in made.errors


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def said(port: int, path: str) -> str:
    """What it answers, with whatever status."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as refused:
        with refused:
            return str(refused.read().decode())


def delete(cluster: Cluster, address: str) -> None:
    """As `kubectl delete --now` does it."""
    [name] = [
        pod["metadata"]["name"]
        for pod in cluster.pods("agents")
        if pod["metadata"]["labels"].get("sandbox-reconciler/address") == address
        or pod["metadata"].get("annotations", {}).get("sandbox-reconciler/address") == address
    ]
    with cluster.storage.lock:
        cluster.storage.remove(("pods", "agents", name))


def lease(cluster: Cluster) -> dict[str, Any]:
    found = cluster.get(LEASES, LEASE, "agents")
    assert found is not None
    spec: dict[str, Any] = found["spec"]
    return spec


def corrections(*watches: Watching) -> list[str]:
    return sorted(told["address"] for watch in watches for told in watch.of("correction"))


def test_the_one_that_is_killed_is_followed_by_the_other_and_each_correction_is_made_once(
    here: Folder, kube_fake: Cluster
) -> None:
    port = free_port()
    with candidate(here) as one, candidate(here, "--listen", str(port), "--audit", "audit.log") as other:
        one.until("look")
        follows = other.until("leadership", leads=False)
        assert f"(pid {one.process.pid}, watch)" in follows["leader"]
        assert other.of("look") == []
        for path in ("/healthz", "/readyz"):  # told of it one after the other, the log first
            other.until_that(lambda path=path: said(port, path).startswith("ok: stands by; "), path)  # type: ignore[misc]
        other.until_that(lambda: 'reconciler_leader{stack="led"} 0.0' in said(port, "/metrics"), "the metric")
        assert lease(kube_fake)["leaseTransitions"] == 1

        delete(kube_fake, "web[0]")
        one.until("correction", address="web[0]", ok=True)
        one.signal(signal.SIGKILL)
        one.process.wait()
        delete(kube_fake, "web[1]")
        assert other.until("leadership", leads=True)
        other.until("correction", address="web[1]", ok=True)
        other.until("look", drifted=0, ready=2, count=2)
        assert corrections(one, other) == ["web[0]", "web[1]"]
        other.until_that(lambda: said(port, "/readyz") == "ok: leads\n", "readiness")
        other.until_that(lambda: 'reconciler_leader{stack="led"} 1.0' in said(port, "/metrics"), "the metric")
        assert lease(kube_fake)["leaseTransitions"] == 2
    assert "holderIdentity" not in lease(kube_fake), "who is asked to end gives it back"
    audit = [json.loads(line) for line in (here.path / "audit.log").read_text().splitlines()]
    assert [line["leads"] for line in audit if line["type"] == "leadership"] == [False, True]
    assert len(kube_fake.pods("agents")) == 2
    here("plan", "--detailed-exitcode")


@pytest.mark.slow
def test_one_that_stood_still_is_overtaken_after_its_lease_and_follows_when_it_wakes_up(
    here: Folder, kube_fake: Cluster
) -> None:
    """Its process lives, so only time tells; and it finds out before it acts."""
    with candidate(here) as one, candidate(here) as other:
        one.until("look")
        other.until("leadership", leads=False)
        one.signal(signal.SIGSTOP)
        delete(kube_fake, "web[0]")
        other.until("leadership", leads=True)
        other.until("correction", address="web[0]", ok=True)
        looks = len(one.of("look"))
        one.signal(signal.SIGCONT)
        lost = one.until("leadership", leads=False)
        assert "was not renewed for " in lost["why"] or "holds it now" in lost["why"], lost
        follows = one.until("leadership", leads=False, count=2)
        assert f"(pid {other.process.pid}, watch)" in follows["leader"]
        delete(kube_fake, "web[1]")
        other.until("correction", address="web[1]", ok=True)
        assert corrections(one, other) == ["web[0]", "web[1]"]
        assert len(one.of("look")) <= looks + 2, "it went on looking"
    assert len(kube_fake.pods("agents")) == 2


def test_one_that_ends_hands_over_at_once(here: Folder, kube_fake: Cluster) -> None:
    with candidate(here) as one, candidate(here) as other:
        one.until("look")
        other.until("leadership", leads=False)
        one.signal(signal.SIGTERM)
        other.until("leadership", leads=True)
        other.until("look")
        assert one.process.wait() == 0
    assert lease(kube_fake)["leaseTransitions"] == 2


def test_where_no_leadership_is_kept_it_is_refused(tmp_path: Path) -> None:
    with folder(tmp_path) as here:
        here.write("version: 1\nstack: led\nsandboxes: {}\n")
        told = here("watch", "--leader-elect", code=3).stderr
        assert "keeps no leadership" in told
        assert "state: {store: kubernetes}" in told
        told = here("watch", "--leader-elect", "--once", code=64).stderr
        assert "leave --leader-elect out" in told
