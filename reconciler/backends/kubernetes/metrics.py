"""What pods take right now, as the cluster's metrics API has it: one listing for all, and no more often than that changes.

A cluster measures every fifteen seconds or so, and tells a rate: two samples of ours would say nothing more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from reconciler.backends.containers import SANDBOX_ID
from reconciler.backends.kubernetes.cluster import Cluster
from reconciler.backends.kubernetes.labelling import SELECTOR
from reconciler.backends.kubernetes.order import Json
from reconciler.backends.kubernetes.quantities import cores, size
from reconciler.errors import BackendError, Unsupported
from reconciler.model.observed import SandboxInfo, Usage

_FRESH = 5.0  # seconds for which one listing answers all


class Metrics:
    """Of one namespace, for all threads: whoever comes while one asks waits for that answer."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._known: Mapping[str, Usage] = {}
        self._asked: float | None = None

    def of(self, info: SandboxInfo) -> Usage | None:
        """None where nobody measures, or has not measured it yet. Raises as every question to the cluster does."""
        with self._lock:
            if self._asked is None or time.monotonic() - self._asked > _FRESH:
                self._asked, self._known = time.monotonic(), {}
                try:
                    self._known = usages(self._cluster.pod_metrics(SELECTOR), time.monotonic())
                except Unsupported:
                    return None
            return self._known.get(info.sandbox_id)


def usages(items: Iterable[Json], at: float) -> dict[str, Usage]:
    """By sandbox id: all containers of each pod together. What makes no sense is left out."""
    found: dict[str, Usage] = {}
    for item in items:
        sandbox_id = ((item.get("metadata") or {}).get("labels") or {}).get(SANDBOX_ID)
        taken = [one.get("usage") or {} for one in item.get("containers") or ()]
        rates, sizes = [cores(one.get("cpu")) for one in taken], [size(one.get("memory")) for one in taken]
        rate, memory = _sum(rates), _sum(sizes)
        if sandbox_id and rate is not None and memory is not None:
            found[str(sandbox_id)] = Usage(cpu_seconds=0.0, memory=int(memory), at=at, cores=rate)
    return found


def _sum(parts: Sequence[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known and len(known) == len(parts) else None


def row(cluster: Cluster) -> tuple[str, bool, str]:
    """For `doctor`: it is no fault of a cluster to measure nothing."""
    try:
        cluster.pod_metrics(f"{SANDBOX_ID}=none")
    except BackendError as error:
        return ("metrics", True, f"{error.message}: `status` shows neither CPU nor memory")
    return ("metrics", True, "CPU and memory can be told")
