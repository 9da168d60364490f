"""A whole stack on a fake cluster whose pods are real servers, through the command line, in both forms."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Folder, folder
from tests.support.kubernetes.api import Call
from tests.support.kubernetes.cluster import Cluster
from tests.support.kubernetes.resources import PODS

BODY = """sandboxes:
  researcher:
    image: aio:1
    replicas: 2
    environment: {LEVEL: info}
    labels: {team: search}
    secrets: {TOKEN: {env: TOKEN}}
    resources: {cpu: 500m, memory: 64Mi}
    network: {mode: isolated}
  calculator:
    image: aio:1
    depends_on: [researcher]
    environment: {PEER: "${sandbox.researcher[0].url}"}
    restart: unless-stopped
outputs: {url: "${sandbox.calculator.url}"}
"""


@pytest.fixture(params=["pod", "agent-sandbox"])
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.setenv("TOKEN", "canary-of-the-tests")
    with folder(tmp_path) as made:
        yield made


def config(kube: Cluster, here: Folder, api: str, body: str = BODY) -> str:
    path = kube.kubeconfig(here.path / "kubeconfig")
    options = {"type": "kubernetes", "kubeconfig": str(path), "api": api, "namespace": "agents"}
    options |= {"create_namespace": True, "stop_timeout": "1s"}  # type: ignore[dict-item]
    return f"version: 1\nstack: research\nbackends: {{cluster: {json.dumps(options)}}}\ndefaults: {{backend: cluster}}\n{body}"


def uids(kube: Cluster) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in kube.pods("agents")}


@pytest.mark.slow
@pytest.mark.parametrize("api", ["pod"])  # the other form does the same, as the conformance suite shows
def test_a_stack_is_applied_put_back_changed_and_destroyed(
    kube_fake: Cluster, here: Folder, api: str
) -> None:
    here.write(config(kube_fake, here, api))
    told = here("apply", "--auto-approve").stdout
    assert "3 created" in told
    assert ".agents.svc:8080" in here("output", "url").stdout
    before = uids(kube_fake)
    assert len(before) == 3

    here("plan", "--detailed-exitcode")  # exit code 0: nothing is to be done
    name = next(name for name in before if "researcher-0" in name)
    kind = "pods" if api == "pod" else "sandboxes.agents.x-k8s.io"

    def relabelled(thing: dict[str, Any]) -> None:
        thing["metadata"]["labels"]["team"] = "sales"

    kube_fake.change(kind, name, relabelled, "agents", by="kubectl-label")
    with kube_fake.storage.lock:
        kube_fake.storage.remove(("networkpolicies.networking.k8s.io", "agents", name))
    drift = here("drift", "--fail-on-drift", code=2).stdout
    assert "kubectl-label changed labels.team" in drift
    assert "network.policy" in drift
    here("drift", "--correct")
    assert kube_fake.get("networkpolicies.networking.k8s.io", name, "agents") is not None
    assert uids(kube_fake) == before

    here.write(config(kube_fake, here, api, BODY.replace("LEVEL: info", "LEVEL: debug")))
    assert "3 replaced" in here("apply", "--auto-approve").stdout
    assert len(uids(kube_fake)) == 3
    assert not set(uids(kube_fake).values()) & set(before.values())
    assert "canary-of-the-tests" not in "".join(
        path.read_text() for path in here.path.rglob("*") if path.is_file()
    )
    assert "canary-of-the-tests" not in repr(kube_fake.pods("agents"))

    assert "3 destroyed" in here("destroy", "--auto-approve").stdout
    assert kube_fake.pods("agents") == []
    with kube_fake.storage.lock:
        kept = [
            key for key, _ in kube_fake.storage.everything() if key[1] == "agents" and "reconciler-" in key[2]
        ]
    assert [key for key in kept if key[0] != "events"] == []


def test_a_pod_that_somebody_is_removing_is_drift_and_is_made_again_once_it_is_gone(
    kube_fake: Cluster, here: Folder
) -> None:
    rules = "lifecycle: {prevent_destroy: true}"
    here.write(config(kube_fake, here, "pod", f"sandboxes: {{one: {{image: stubborn, {rules}}}}}\n"))
    here("apply", "--auto-approve")
    [(name, uid)] = uids(kube_fake).items()
    evicted = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    with kube_fake.storage.lock:
        pod = copy.deepcopy(kube_fake.get("pods", name, "agents"))
        assert pod is not None
        pod["status"]["conditions"].append({**evicted, "message": "Eviction API: evicting"})
        kube_fake.storage.put(("pods", "agents", name), pod)
    kube_fake.api.delete(Call(resource=PODS, namespace="agents", name=name), {"gracePeriodSeconds": 3600})

    told = " ".join(here("drift", "--fail-on-drift", code=2).stdout.split())
    assert "somebody removed it (it was evicted, as `kubectl drain` does: Eviction API: evicting;" in told
    assert "it is ending, and has until" in told
    planned = " ".join(here("plan", "--detailed-exitcode", code=2).stdout.split())
    assert "somebody is removing it" in planned
    assert "terminating" in here("status").stdout
    assert uids(kube_fake) == {name: uid}

    here("drift", "--correct")  # protected or not: it cannot be kept
    assert uids(kube_fake).keys() == {name}
    assert uids(kube_fake) != {name: uid}
    here("plan", "--detailed-exitcode")


def test_an_image_that_is_not_there_is_told_with_its_reason_and_a_sandbox_ends_by_itself(
    kube_fake: Cluster, here: Folder, api: str
) -> None:
    body = "sandboxes: {one: {image: image-missing, lifecycle: {max_lifetime: 8h}}}\n"
    here.write(config(kube_fake, here, api, body))
    failed = here("apply", "--auto-approve", code=5)
    assert "image image-missing cannot be pulled" in failed.stdout + failed.stderr
    with kube_fake.storage.lock:
        made = [thing for key, thing in kube_fake.storage.everything() if key[0].startswith("sandboxes.")]
    assert len(made) == (api == "agent-sandbox")
    for thing in made:
        ends = datetime.fromisoformat(thing["spec"]["shutdownTime"]).timestamp()
        assert abs(ends - time.time() - 8 * 3600) < 600
        assert thing["spec"]["shutdownPolicy"] == "Retain"


def test_the_example_is_applied(kube_fake: Cluster, here: Folder) -> None:
    here.environ |= {"KUBECONFIG": str(kube_fake.kubeconfig(here.path / "kubeconfig")), "API_TOKEN": "t-1"}
    example = Path(__file__).parents[2] / "examples" / "cluster"
    here.write((example / "sandboxes.yaml").read_text(encoding="utf-8"))
    assert "3 created" in here("apply", "--auto-approve").stdout
    assert ".sandboxes.svc:8080" in here("output", "url").stdout
    assert len(kube_fake.pods("sandboxes")) == 3
    here("plan", "--detailed-exitcode")
    here("destroy", "--auto-approve")
    assert kube_fake.pods("sandboxes") == []


def test_where_nothing_leads_to_a_sandbox_the_command_that_does_is_told(
    kube_fake: Cluster, here: Folder
) -> None:
    written = config(kube_fake, here, "pod", "sandboxes: {one: {image: aio:1}}\n")
    here.write(written.replace('"type": "kubernetes"', '"type": "kubernetes", "access": "port-forward"'))
    here("apply", "--auto-approve")
    [name] = uids(kube_fake)
    told = f"--namespace agents port-forward pod/{name} 8080"
    [row] = json.loads(here("status", "--json").stdout)["sandboxes"]
    assert (row["url"], row["ready"]) == ("", True)
    assert row["detail"].endswith(told)
    assert told in " ".join(here("why", "one").stdout.split())


def test_two_backends_share_a_namespace_that_one_of_them_is_to_make(kube_fake: Cluster, here: Folder) -> None:
    path = str(kube_fake.kubeconfig(here.path / "kubeconfig"))
    shared = {"type": "kubernetes", "kubeconfig": path, "namespace": "agents", "stop_timeout": "1s"}
    makes = {**shared, "api": "agent-sandbox", "create_namespace": True}
    backends = json.dumps({"one": shared, "other": makes})
    sandboxes = (
        "{first: {image: aio:1, backend: one}, second: {image: aio:1, backend: other, depends_on: [first]}}"
    )
    here.write(f"version: 1\nstack: research\nbackends: {backends}\nsandboxes: {sandboxes}\n")
    assert "2 created" in here("apply", "--auto-approve").stdout  # the one that does not say it goes first
