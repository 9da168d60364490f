"""Plans of pods that change nothing, on the tests' fake API server: questions asked, time, memory.

Pods are made past HTTP as an apply made them, and adopted once; what is measured is the command itself. The server answers
in this process, so its own time is in the wall clock, and in no other figure.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from msgspec.structs import replace

from benchmarks.figures import Figure
from benchmarks.measure import Cost, cpu, once, peak, reconciler, wall
from benchmarks.plans import growth
from reconciler.backends.kubernetes import KubernetesBackend
from reconciler.core.identity import sandbox_id
from reconciler.model.desired import Address, Owner, SandboxSpec, fingerprint
from tests.support.kubernetes.cluster import Cluster, running
from tests.support.kubernetes.refusals import Json

COUNTS, COUNTS_QUICK = (100, 1000, 5000), (1000,)
STACK = "bench"
CONFIG = """version: 1
stack: {stack}
backends: {{cluster: {backend}}}
sandboxes:
  s: {{backend: cluster, replicas: {count}, image: aio, readiness: none}}
"""


def measure(quick: bool) -> Iterator[Figure]:
    rounds = 1 if quick else 3
    constant = median(cpu(_planned(1, rounds)[0]))
    costs = {}
    for count in COUNTS_QUICK if quick else COUNTS:
        took, questions = _planned(count, rounds)
        costs[count] = median(cpu(took))
        what = f"kubernetes: no-op plan of {count:,} pods"
        yield Figure(name=what, unit="s", samples=wall(took))
        yield Figure(name=f"{what}: peak memory", unit="MB", samples=peak(took))
        yield Figure(name=f"{what}: questions asked", unit="", samples=(questions,))
    yield from growth("no-op plan, pods", costs, constant)


def _planned(count: int, rounds: int) -> tuple[Sequence[Cost], int]:
    with running(nodes=False) as cluster, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kubeconfig = str(cluster.kubeconfig(folder / "kubeconfig"))
        backend = json.dumps({"type": "kubernetes", "kubeconfig": kubeconfig})
        (folder / "sandboxes.yaml").write_text(CONFIG.format(stack=STACK, backend=backend, count=count))
        _fill(cluster, kubeconfig, count)
        once([*reconciler(), "apply", "--auto-approve", "-q"], folder)
        plan = [*reconciler(), "plan", "--detailed-exitcode"]  # 0: nothing is to be done, or this fails
        before = len(cluster.log)
        took = [once(plan, folder)]
        questions = sum(request.method == "GET" for request in cluster.log[before:])
        return [*took, *(once(plan, folder) for _ in range(rounds - 1))], questions


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
