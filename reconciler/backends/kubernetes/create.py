"""From an order to a sandbox on the cluster: made, given what stands beside it, let go; or found, when it is there already.

A creation is a plain POST: it alone refuses a name that is taken, where an apply would take over what is there. What needs a
secret or a network policy is made first and held back, so that both can be owned by it and it never runs without them. Where
an answer is lost everything stays, and the next attempt finds it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from reconciler.backends.kubernetes import manifests
from reconciler.backends.kubernetes.beside import Beside
from reconciler.backends.kubernetes.cluster import Cluster
from reconciler.backends.kubernetes.explain import NEVER_STARTED
from reconciler.backends.kubernetes.find import Objects
from reconciler.backends.kubernetes.labelling import is_ours
from reconciler.backends.kubernetes.look import Found
from reconciler.backends.kubernetes.order import GATE, UNFINISHED, Json, Order
from reconciler.backends.kubernetes.remove import Removal
from reconciler.backends.ownership import check_owner
from reconciler.errors import BackendError, Conflict, NotFound, Permanent, Transient
from reconciler.kubeapi.failures import Exists
from reconciler.model.observed import SandboxInfo

_TRIES = 5
_LONGEST_PAUSE = 1.0


class Creation:
    """Makes the sandboxes of one namespace. `address_within` are the seconds to wait for the address of a pod, where that
    is how sandboxes are reached; 0 for no waiting."""

    def __init__(
        self,
        cluster: Cluster,
        objects: Objects,
        stands_beside: Beside,
        removal: Removal,
        *,
        create_namespace: bool,
        address_within: float,
    ) -> None:
        self._cluster = cluster
        self._objects = objects
        self._beside = stands_beside
        self._removal = removal
        self._create_namespace = create_namespace
        self._address_within = address_within

    def create(self, order: Order) -> SandboxInfo:
        """Raises Conflict when the name is somebody else's, or the sandbox is another one."""
        for _ in range(_TRIES):
            try:
                return self._attempt(order)
            except Exists:
                info = self._reusable(order)
                if info is not None:
                    return info
        raise Transient(
            f"sandbox {order.sandbox_id} could not be created in {_TRIES} attempts: it came and went every time",
            retry_after=1.0,
        )

    def _attempt(self, order: Order) -> SandboxInfo:
        body = manifests.sandbox(order) if order.agent_sandbox else manifests.pod(order)
        made = self._post(body)
        try:
            return self._made_whole(made, order)
        except Transient:
            raise  # it stays, and the next attempt finishes it
        except BackendError:
            with contextlib.suppress(BackendError):  # nothing half made is left behind
                self._removal.end(Found(main=made))
            raise

    def _post(self, body: Json) -> Json:
        try:
            return self._cluster.create(body["kind"], body)
        except NotFound as error:
            if not self._cluster.lacks_namespace(error):
                raise
            if not self._create_namespace:
                name = self._cluster.namespace
                raise Permanent(
                    f"there is no namespace {name}",
                    hint=f"`kubectl create namespace {name}`, or `create_namespace: true` on the backend",
                ) from error
        self._cluster.create_namespace()
        return self._cluster.create(body["kind"], body)

    def _made_whole(self, made: Json, order: Order) -> SandboxInfo:
        beside = self._beside.ensure(order, made)
        if order.held_back:
            made = self._let_go(made, order)
        found = Found(main=made, service=beside.get("Service"), policy=beside.get("NetworkPolicy"))
        if self._address_within:
            found = self._addressed(found)
        return self._objects.reader.info(found)

    def _let_go(self, made: Json, order: Order) -> Json:
        """What held it back goes; somebody else's gates stay."""
        name, uid = str(made["metadata"]["name"]), str(made["metadata"]["uid"])
        if order.agent_sandbox:
            patch: Json = {
                "metadata": {"uid": uid, "annotations": {UNFINISHED: None}},
                "spec": {"operatingMode": "Running"},
            }
            return self._cluster.merge("Sandbox", name, patch)
        gates = (made.get("spec") or {}).get("schedulingGates") or []
        rest = [gate for gate in gates if gate.get("name") != GATE]
        if rest == gates:
            return made
        return self._cluster.merge(
            "Pod", name, {"metadata": {"uid": uid}, "spec": {"schedulingGates": rest or None}}
        )

    def _addressed(self, found: Found) -> Found:
        """Raises Permanent with the reason when there will be none, Transient when there is none in time."""
        began = time.monotonic()
        while not self._objects.reader.address(found):
            told = found.explained()
            if told.hopeless:
                raise Permanent(f"sandbox {found.sandbox_id} gets no address: {told.detail or told.phase}")
            waited = time.monotonic() - began
            if waited > self._address_within:
                detail = told.detail or "nobody says why"
                raise Transient(f"sandbox {found.sandbox_id} has no address after {waited:.0f} s: {detail}")
            time.sleep(min(_LONGEST_PAUSE, max(0.02, waited / 10)))
            found = self._objects.again(found)
        return found

    def _reusable(self, order: Order) -> SandboxInfo | None:
        """The sandbox of that name when it is the one that is meant; None when it is gone by now, or was a dead one of
        ours, which is cleared away. Raises Conflict for anything else."""
        found = self._objects.named(order.name)
        if found is None:
            return None
        self._refuse_stranger(found, order)
        seen = self._objects.reader.seen(found)
        if found.main["metadata"].get("deletionTimestamp"):
            check_owner(order.sandbox_id, seen.owner, order.spec.owner, dead=True)
            self._removal.end(found)  # asks once more, and waits
            return None
        never_started = seen.detail == NEVER_STARTED
        dead = seen.phase.is_dead and not never_started
        check_owner(order.sandbox_id, seen.owner, order.spec.owner, dead=dead)
        if dead:
            self._removal.end(found)
            return None
        try:
            return self._made_whole(dict(found.main), order)
        except NotFound:
            return None

    def _refuse_stranger(self, found: Found, order: Order) -> None:
        metadata: Mapping[str, Any] = found.main["metadata"]
        if not is_ours(metadata, order.sandbox_id) or self._objects.is_of_another(dict(found.main)):
            kind = "Sandbox" if order.agent_sandbox else "pod"
            raise Conflict(
                f"the name {order.name} is taken by a {kind} that is not ours ({found.uid})",
                hint=f"remove it (`kubectl delete {kind.lower()} {order.name}`), or set `prefix:` on the backend",
            )
