"""Which objects are which sandbox: by our labels, by our name, by somebody else's. Looks only.

One listing a kind, page by page, and of the kinds beside it only those that some sandbox has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from reconciler.backends.containers import MANAGED_BY, SANDBOX_ID
from reconciler.backends.kubernetes.cluster import Cluster
from reconciler.backends.kubernetes.compare import beside
from reconciler.backends.kubernetes.labelling import SELECTOR, WARM_POOL
from reconciler.backends.kubernetes.look import Found, Json, Reader
from reconciler.errors import NotFound, Transient
from reconciler.model.observed import ObservedSandbox, Phase

_ALIVE = (Phase.PENDING, Phase.STARTING, Phase.READY, Phase.UNREADY)


class Objects:
    """The sandboxes of one namespace. `kind` is Pod or Sandbox, `prefix` begins the names we give."""

    def __init__(self, cluster: Cluster, reader: Reader, kind: str, prefix: str) -> None:
        self._cluster = cluster
        self.reader = reader
        self.kind = kind
        self._prefix = prefix

    def name(self, sandbox_id: str) -> str:
        """What we call its objects."""
        return f"{self._prefix}-{sandbox_id}"

    def all(self) -> list[ObservedSandbox]:
        """Ours, sorted by name."""
        pods = self._by_name("Pod", SELECTOR) if self.kind == "Sandbox" else {}
        mains = [_light(item) for item in self._cluster.items(self.kind, SELECTOR) if self._is_one(item)]
        wanted: set[str] = set()
        for item in mains:
            wanted |= beside(item["metadata"])
        services = self._by_name("Service", SELECTOR) if "Service" in wanted else {}
        policies = self._by_name("NetworkPolicy", SELECTOR) if "NetworkPolicy" in wanted else {}
        seen = [
            self.reader.seen(
                Found(
                    main=item,
                    pod=_pod_of(item, pods),
                    service=services.get(item["metadata"]["name"]),
                    policy=policies.get(item["metadata"]["name"]),
                )
            )
            for item in mains
        ]
        return sorted(seen, key=lambda one: one.info.container_name or "")

    def _by_name(self, kind: str, selector: str) -> dict[str, Json]:
        return {item["metadata"]["name"]: _light(item) for item in self._cluster.items(kind, selector)}

    def _is_one(self, item: Json) -> bool:
        """Neither a warm pool's, nor a pod that a `Sandbox` has made."""
        return WARM_POOL not in (item["metadata"].get("labels") or {}) and not self.is_of_another(item)

    def is_of_another(self, item: Json) -> bool:
        """Whether it is the pod that a `Sandbox` has made, which is the sandbox then."""
        owners = item["metadata"].get("ownerReferences") or ()
        return self.kind == "Pod" and any(owner.get("kind") == "Sandbox" for owner in owners)

    def find(self, sandbox_id: str) -> Found | None:
        """By our name for it; by its label, should the prefix have been another one; or by somebody else's name for it."""
        own = self.named(self.name(sandbox_id))
        if own is not None and own.sandbox_id == sandbox_id and not self.is_of_another(own.main):
            return own
        for item in self._cluster.items(self.kind, f"{MANAGED_BY}=reconciler,{SANDBOX_ID}={sandbox_id}"):
            if self._is_one(item):
                return self._with_others(item)
        theirs = self.named(sandbox_id)
        is_it = theirs is not None and theirs.sandbox_id == sandbox_id and not self.is_of_another(theirs.main)
        return theirs if is_it else None

    def named(self, name: str) -> Found | None:
        """The object of that name, whoever made it, with what stands beside it."""
        try:
            main = self._cluster.get(self.kind, name)
        except NotFound:
            return None
        return self._with_others(main)

    def again(self, found: Found) -> Found:
        """The same one as it is now. Raises NotFound when it is gone, or another one has its name."""
        main = self._cluster.get(self.kind, found.name)
        if main["metadata"].get("uid") != found.uid:
            raise NotFound(f"sandbox {found.sandbox_id} is gone: another one has its name")
        return self._with_others(main)

    def _with_others(self, main: Json) -> Found:
        name, kinds = str(main["metadata"]["name"]), beside(main["metadata"])
        return Found(
            main=main,
            pod=_owned(self._maybe("Pod", Found(main=main).pod_name), main)
            if self.kind == "Sandbox"
            else None,
            service=self._maybe("Service", name) if "Service" in kinds else None,
            policy=self._maybe("NetworkPolicy", name) if "NetworkPolicy" in kinds else None,
        )

    def _maybe(self, kind: str, name: str) -> Json | None:
        with contextlib.suppress(NotFound):
            return self._cluster.get(kind, name)
        return None


def _light(item: Json) -> Json:
    """Without the half of it that says who wrote what, which no listing shows."""
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    return {**item, "metadata": metadata}


def _pod_of(sandbox: Json, pods: dict[str, Json]) -> Json | None:
    return _owned(pods.get(Found(main=sandbox).pod_name), sandbox)


def _owned(pod: Json | None, sandbox: Json) -> Json | None:
    owners: Iterator[Any] = iter(() if pod is None else pod["metadata"].get("ownerReferences") or ())
    uid = sandbox["metadata"].get("uid")
    return pod if any(owner.get("uid") == uid for owner in owners) else None


def runs(seen: ObservedSandbox | None) -> bool:
    """False only for what is definitely not there, dead, suspended, or on its way out. Raises Transient when nobody can
    tell, as when its node does not answer."""
    if seen is None or seen.phase is not Phase.UNKNOWN:
        return seen is not None and seen.phase in _ALIVE
    raise Transient(f"whether sandbox {seen.info.sandbox_id} runs cannot be told: {seen.detail}")
