"""The metrics API as metrics-server gives it: what running pods take. Off until a test installs it."""

from __future__ import annotations

from typing import Any

from tests.support.kubernetes import selectors
from tests.support.kubernetes.api import stamp
from tests.support.kubernetes.refusals import Json
from tests.support.kubernetes.resources import PODS
from tests.support.kubernetes.storage import Storage

BASE = "/apis/metrics.k8s.io/v1beta1/namespaces/"


class MetricsServer:
    """`installed` is whether the cluster has it; `taken` what each container of a pod takes, by the pod's name."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.installed = False
        self.taken: dict[str, dict[str, str]] = {}

    def listed(self, path: str, selector: str) -> Json | None:
        """None for what it does not serve."""
        namespace, _, plural = path.removeprefix(BASE).partition("/")
        if not self.installed or not path.startswith(BASE) or plural != "pods":
            return None
        matches = selectors.labels(selector)
        with self._storage.lock:
            pods = [pod for pod in self._storage.list(PODS, namespace) if matches(pod)]
        running = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]
        return {
            "kind": "PodMetricsList",
            "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {},
            "items": [self._one(pod) for pod in running],
        }

    def _one(self, pod: Json) -> Json:
        metadata: dict[str, Any] = pod["metadata"]
        taken = self.taken.get(metadata["name"], {"cpu": "1500000n", "memory": "20480Ki"})
        return {
            "metadata": {
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "creationTimestamp": stamp(),
                "labels": metadata.get("labels") or {},
            },
            "timestamp": stamp(),
            "window": "15.1s",
            "containers": [{"name": one["name"], "usage": taken} for one in pod["spec"]["containers"]],
        }
