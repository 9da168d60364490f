"""How much a backend is asked: counted by a proxy before the engine, by the fake cluster, and by the backend itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.budgets.table import within
from tests.support.build import desired, wanted
from tests.support.cli import Folder, folder
from tests.support.docker import EngineStack, requires_docker
from tests.support.kubernetes.cluster import Cluster
from tests.support.provisioner import provisioner
from tests.support.proxy import proxy
from tests.support.running import Stack

COUNT = 10
LIST = "GET /containers/json"


def body(**fields: object) -> str:
    return f"sandboxes: {json.dumps({'s': {'replicas': COUNT, **fields}})}\n"


def told(calls: Mapping[str, int]) -> str:
    return "It asked:\n" + "\n".join(f"{number:5} {call}" for call, number in sorted(calls.items()))


def changes(calls: Mapping[str, int]) -> int:
    return sum(number for call, number in calls.items() if not call.startswith("GET "))


@requires_docker
@pytest.mark.slow
def test_docker_is_asked_once_by_a_plan_and_a_few_times_by_what_acts(
    tmp_path: Path, docker_stack: EngineStack
) -> None:
    with proxy(tmp_path, docker_stack.host) as before, folder(tmp_path) as here:
        options = {"type": "docker", "host": before.url, "image": docker_stack.images.agent}
        head = f"version: 1\nstack: {docker_stack.name}\nbackends: {{local: {json.dumps(options)}}}\n"

        def calls(*command: str) -> Counter[str]:
            before.reset()
            here(*command, code=0)
            return Counter({c: n for c, n in before.calls.items() if "/containers" in c})

        here.write(head + body())
        made = calls("apply", "--auto-approve")
        within("docker: changes of an apply, a sandbox", changes(made) / COUNT, told(made))
        plan = calls("plan", "--detailed-exitcode")
        assert plan[LIST], "the proxy sees what is asked"
        within("docker: questions of a no-op plan", plan.total(), told(plan))

        here.write(head + body(resources={"cpu": 0.5, "memory": "64Mi", "pids": 64}))
        here("apply", "--auto-approve")
        closer = calls("plan", "--detailed-exitcode")
        inspections = (closer.total() - closer[LIST]) / COUNT
        within("docker: inspections of a no-op plan with limits, a sandbox", inspections, told(closer))
        gone = calls("destroy", "--auto-approve")
        within("docker: changes of a destroy, a sandbox", changes(gone) / COUNT, told(gone))


@pytest.mark.slow
def test_a_plan_on_kubernetes_lists_and_reads_nothing_by_name(tmp_path: Path, kube_fake: Cluster) -> None:
    kube_fake.make("v1", "Namespace", "budget")
    path = kube_fake.kubeconfig(tmp_path / "kubeconfig", namespace="budget")
    options = {"type": "kubernetes", "kubeconfig": str(path), "namespace": "budget", "image": "aio:1"}
    with folder(tmp_path) as here:
        here.write(f"version: 1\nstack: budget\nbackends: {{main: {json.dumps(options)}}}\n{body()}")
        here("apply", "--auto-approve")
        asked = asked_of(kube_fake, here)
    listings = [request for request in asked if request.lists]
    assert listings
    calls = Counter(f"{request.method} {request.path}" for request in asked)
    within("kubernetes: listings of a no-op plan", len(listings), told(calls))
    named = sum(
        request.path.startswith("/api") and "/namespaces/budget/" in request.path for request in asked
    )
    by_name = (named - len(listings)) / COUNT
    within("kubernetes: objects read by name in a no-op plan, a sandbox", by_name, told(calls))


def asked_of(cluster: Cluster, here: Folder) -> list:
    seen = len(cluster.log)
    here("plan", "--detailed-exitcode", code=0)
    return cluster.log[seen:]


@pytest.mark.slow
def test_a_plan_on_a_provisioner_is_one_request_on_one_connection(tmp_path: Path) -> None:
    with provisioner() as far, folder(tmp_path, PROVISIONER_API_KEY="the-key") as here:
        options = {"type": "remote", "url": far.url, "api_key": {"env": "PROVISIONER_API_KEY"}}
        here.write(f"version: 1\nstack: budget\nbackends: {{far: {json.dumps(options)}}}\n{body()}")
        here("apply", "--auto-approve")
        far.requests.clear()
        before = far.connections
        here("plan", "--detailed-exitcode", code=0)
        calls = Counter(f"{method} {path}" for method, path, _, _ in far.requests)
        assert calls, "the provisioner sees what is asked"
        within("remote: requests of a no-op plan", calls.total(), told(calls))
        within("remote: connections of a no-op plan", far.connections - before)


def test_a_plan_asks_any_backend_for_one_listing() -> None:
    stack = Stack(desired(*(wanted(f"s[{i}]") for i in range(COUNT))))
    stack.apply()
    stack.clear()
    assert stack.plan().empty
    within("memory: listings of a no-op plan", len(stack.backend.calls), str(stack.backend.calls))
