"""Plans of 100, 1,000 and 5,000 pods on the tests' fake API server: questions asked, time, memory per pod.

Pods are made past HTTP as an apply made them, and adopted once; what is measured is the command itself, planning that
nothing is to be done. The server answers in this process, so its own time is in the wall clock, and in no other figure.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from msgspec.structs import replace

from benchmarks.measure import Cost, process, reconciler
from reconciler.backends.kubernetes import KubernetesBackend
from reconciler.core.identity import sandbox_id
from reconciler.model.desired import Address, Owner, SandboxSpec, fingerprint
from tests.support.kubernetes.cluster import Cluster, running
from tests.support.kubernetes.refusals import Json

COUNTS = (100, 1000, 5000)
STACK = "bench"
CONFIG = """version: 1
stack: {stack}
backends: {{cluster: {backend}}}
sandboxes:
  s: {{backend: cluster, replicas: {count}, image: aio, readiness: none}}
"""


def main() -> None:
    bare: Cost | None = None
    for count in (1, *COUNTS):
        with running(nodes=False) as cluster, tempfile.TemporaryDirectory() as folder:
            cost, questions = _planned(cluster, Path(folder), count)
        if bare is None:
            bare = cost
            continue
        each = (cost.peak_mb - bare.peak_mb) * 1024 / count
        print(f"plan of {count:5} pods: {questions} list calls   {cost}   {each:5.1f} KB per pod")


def _planned(cluster: Cluster, folder: Path, count: int) -> tuple[Cost, int]:
    kubeconfig = str(cluster.kubeconfig(folder / "kubeconfig"))
    backend = json.dumps({"type": "kubernetes", "kubeconfig": kubeconfig})
    (folder / "sandboxes.yaml").write_text(CONFIG.format(stack=STACK, backend=backend, count=count))
    _fill(cluster, kubeconfig, count)
    process([*reconciler(), "apply", "--auto-approve"], folder, runs=1, warmup=0)
    plan = [*reconciler(), "plan", "--detailed-exitcode"]  # 0: nothing is to be done, or this fails
    process(plan, folder, runs=1, warmup=0)
    before = len(cluster.log)
    process(plan, folder, runs=1, warmup=0)
    questions = sum(request.method == "GET" for request in cluster.log[before:])
    return process(plan, folder, runs=3, warmup=0), questions


def _fill(cluster: Cluster, kubeconfig: str, count: int) -> None:
    """The pods and services that an apply would have made: the first by our backend, the rest after its pattern."""
    spec = SandboxSpec(image="aio")
    backend = KubernetesBackend(kubeconfig)
    for index in range(count):
        address = Address(f"s[{index}]")
        name = sandbox_id(STACK, address, 1)
        owner = Owner(
            stack=STACK,
            lineage="bench",
            address=address,
            generation=1,
            spec_hash=fingerprint(spec.canonical()),
        )
        backend.create(None, name, spec=_owned(spec, owner)) if index == 0 else _copied(cluster, name, owner)
    backend.close()


def _owned(spec: SandboxSpec, owner: Owner) -> SandboxSpec:
    return replace(spec, owner=owner)


def _copied(cluster: Cluster, name: str, owner: Owner) -> None:
    first = sandbox_id(STACK, Address("s[0]"), 1)
    with cluster.storage.lock:
        for plural in ("pods", "services"):
            found = cluster.get(plural, f"reconciler-{first}")
            assert found is not None
            text = json.dumps(found).replace(first, name).replace("s[0]", str(owner.address))
            made: Json = json.loads(text)
            made["metadata"]["uid"] = f"{plural}-{name}"
            cluster.storage.put((plural, "default", f"reconciler-{name}"), made)


if __name__ == "__main__":
    main()
