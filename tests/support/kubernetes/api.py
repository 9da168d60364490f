"""What each verb does to the objects: create, read, list, replace, patch, apply and delete, without any HTTP."""

from __future__ import annotations

import copy
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.kubernetes import defaults, patches, refusals, validation
from tests.support.kubernetes.admission import Admission
from tests.support.kubernetes.managed import Managers
from tests.support.kubernetes.refusals import Json, Refusal
from tests.support.kubernetes.resources import NAMESPACES, PODS, Resource
from tests.support.kubernetes.storage import Key, Storage

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


@dataclass(kw_only=True)
class Call:
    """One request about one type, as the routes understood it."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    query: dict[str, str] = field(default_factory=dict)
    user: str = "admin"
    groups: tuple[str, ...] = ("system:masters",)
    agent: str = ""

    @property
    def key(self) -> Key:
        return (self.resource.key, self.namespace, self.name)

    @property
    def manager(self) -> str:
        return self.query.get("fieldManager") or self.agent.partition("/")[0] or "unknown"

    @property
    def dry(self) -> bool:
        return self.query.get("dryRun") == "All"


def stamp(moment: datetime | None = None) -> str:
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Api:
    """All verbs take the storage's lock; each is one step that nobody sees half of."""

    def __init__(self, storage: Storage, admission: Admission) -> None:
        self.storage = storage
        self.admission = admission

    def get(self, call: Call) -> Json:
        with self.storage.lock:
            found = self.storage.get(call.key)
            if found is None:
                raise refusals.not_found(call.resource, call.name)
            return found

    def create(self, call: Call, sent: Json) -> Json:
        with self.storage.lock:
            thing = self._accepted(call, sent)
            name = thing["metadata"].get("name")
            if not name and thing["metadata"].get("generateName"):
                thing["metadata"]["name"] = thing["metadata"]["generateName"] + secrets.token_hex(3)[:5]
            call.name = thing["metadata"].get("name", "")
            return self._create(call, thing, Managers(None, call.resource.api_version), applied=False)

    def _create(self, call: Call, thing: Json, managers: Managers, *, applied: bool) -> Json:
        metadata = thing["metadata"]
        for gone in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"):
            if gone == "resourceVersion" and metadata.get(gone):
                raise Refusal(500, "resourceVersion should not be set on objects to be created")
            metadata.pop(gone, None)
        self._in_namespace(call, thing)
        if not call.resource.group or call.resource.group != "agents.x-k8s.io" or not applied:
            thing.pop("status", None)
        metadata.update(uid=str(uuid.uuid4()), creationTimestamp=stamp())
        if call.resource.generation:
            metadata["generation"] = 1
        _checked(thing)
        defaults.fill(thing)
        if causes := validation.new(thing):
            raise refusals.invalid(call.resource, call.name, causes)
        if self.storage.get(call.key) is not None:
            raise refusals.already_exists(call.resource, call.name)
        if not applied:
            managers.update(call.manager, "", None, thing)
        metadata["managedFields"] = managers.entries(stamp(), Managers(None, call.resource.api_version))
        self.admission.admit(self.storage, "create", call, thing)
        return thing if call.dry else self.storage.put(call.key, thing)

    def _in_namespace(self, call: Call, thing: Json) -> None:
        if not call.resource.namespaced:
            return
        thing["metadata"]["namespace"] = call.namespace
        space = self.storage.get((NAMESPACES.key, "", call.namespace))
        if space is None:
            raise refusals.not_found(NAMESPACES, call.namespace)
        if space["metadata"].get("deletionTimestamp"):
            refusal = refusals.forbidden(
                call.resource, call.name,
                f"unable to create new content in namespace {call.namespace} because it is being terminated",
            )  # fmt: skip
            refusal.details["causes"] = [
                {
                    "reason": "NamespaceTerminating",
                    "message": f"namespace {call.namespace} is being terminated",
                    "field": "metadata.namespace",
                }
            ]
            raise refusal

    def _accepted(self, call: Call, sent: Any) -> Json:
        """A copy of what was sent, once it is an object of this type and place."""
        if not isinstance(sent, dict):
            raise refusals.bad_request("the object provided is unrecognized (must be of type object)")
        kind, version = sent.get("kind", ""), sent.get("apiVersion", "")
        if not call.resource.group and (not kind or not version):
            sent = {
                **sent,
                "kind": kind or call.resource.kind,
                "apiVersion": version or call.resource.api_version,
            }
        elif (kind, version) != (call.resource.kind, call.resource.api_version):
            raise refusals.bad_request(
                f"{kind} in version {version!r} cannot be handled as a {call.resource.kind}: the API version in the data "
                f"({version}) does not match the expected API version ({call.resource.api_version})"
            )
        sent = {**sent, "kind": call.resource.kind, "apiVersion": call.resource.api_version}
        thing = copy.deepcopy(sent)
        metadata = thing.setdefault("metadata", {})
        if metadata is None:
            metadata = thing["metadata"] = {}
        if metadata.get("namespace") and metadata["namespace"] != call.namespace:
            raise refusals.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        if call.name and metadata.get("name") and metadata["name"] != call.name:
            raise refusals.bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({call.name})"
            )
        return thing

    def replace(self, call: Call, sent: Json) -> Json:
        with self.storage.lock:
            live = self.get(call)
            thing = self._accepted(call, sent)
            return self._update(call, live, thing, Managers(live, call.resource.api_version), applied=False)

    def _update(self, call: Call, live: Json, thing: Json, managers: Managers, *, applied: bool) -> Json:
        """Store `thing` over `live`, but for what only the server decides."""
        resource = call.resource
        wanted = thing["metadata"].get("resourceVersion")
        if wanted and wanted != live["metadata"]["resourceVersion"]:
            raise refusals.conflict(resource, call.name)
        if thing["metadata"].get("uid") not in (None, "", live["metadata"]["uid"]):
            raise refusals.conflict(
                resource,
                call.name,
                f"Precondition failed: UID in precondition: {thing['metadata']['uid']}, UID in object meta: "
                f"{live['metadata']['uid']}",
            )
        thing = copy.deepcopy(thing)
        for name in (
            "uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds",
            "resourceVersion", "managedFields", "name", "namespace", "generateName",
        ):  # fmt: skip
            thing["metadata"].pop(name, None)
            if name in live["metadata"]:
                thing["metadata"][name] = live["metadata"][name]
        if call.subresource == "status":
            thing = {**copy.deepcopy(live), "status": thing.get("status", {})}
        elif resource.status and "status" in live:
            thing["status"] = copy.deepcopy(live["status"])
        _kept(live, thing)
        _checked(thing)
        defaults.fill(thing)
        if call.subresource != "status":
            causes = [*validation.update(live, thing), *validation.new(thing)]
            if causes:
                raise refusals.invalid(resource, call.name, causes)
        if resource.generation and live.get("spec") != thing.get("spec"):
            thing["metadata"]["generation"] = live["metadata"].get("generation", 1) + 1
        if not applied:
            managers.update(call.manager, call.subresource, live, thing)
        former = Managers(live, resource.api_version)
        thing["metadata"]["managedFields"] = managers.entries(stamp(), former)
        self.admission.admit(self.storage, "update", call, thing)
        if thing == live or call.dry:
            return thing
        metadata = thing["metadata"]
        ends = metadata.get("deletionTimestamp") and not metadata.get("finalizers")
        if ends and not (resource == PODS and metadata.get("deletionGracePeriodSeconds")):
            self.storage.put(call.key, thing)
            return self.storage.remove(call.key)
        return self.storage.put(call.key, thing)

    def patch(self, call: Call, content_type: str, patch: Any) -> tuple[int, Json]:
        """The status (201 when server-side apply made the object) and the object."""
        if content_type == APPLY:
            return self._apply(call, patch)
        with self.storage.lock:
            live = self.get(call)
            if content_type == MERGE:
                thing = patches.merge(live, patch)
            elif content_type == JSON_PATCH:
                thing = patches.json_patch(live, patch)
            elif content_type == STRATEGIC and call.resource.group != "agents.x-k8s.io":
                thing = patches.strategic(live, patch)
            else:
                raise Refusal(
                    415, "the body of the request was in an unknown format - accepted media types include: "
                    f"{JSON_PATCH}, {MERGE}, {APPLY}",
                )  # fmt: skip
            thing = self._accepted(call, thing)
            if thing["metadata"].get("resourceVersion") == live["metadata"]["resourceVersion"]:
                thing["metadata"].pop("resourceVersion")
            return 200, self._update(
                call, live, thing, Managers(live, call.resource.api_version), applied=False
            )

    def _apply(self, call: Call, wanted: Json) -> tuple[int, Json]:
        if not call.query.get("fieldManager"):
            raise Refusal(
                422,
                'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
                "Invalid",
                details={
                    "group": "meta.k8s.io",
                    "kind": "PatchOptions",
                    "causes": [
                        {
                            "reason": "FieldValueRequired",
                            "message": "Required value: is required for apply patch",
                            "field": "fieldManager",
                        }
                    ],
                },
            )
        with self.storage.lock:
            wanted = self._accepted(call, wanted)
            if wanted["metadata"].get("managedFields"):
                raise refusals.bad_request("metadata.managedFields must be nil")
            live = self.storage.get(call.key)
            managers = Managers(live, call.resource.api_version)
            if live is None and wanted["metadata"].get("uid"):
                raise refusals.conflict(
                    call.resource, call.name,
                    f"uid mismatch: the provided object specified uid {wanted['metadata']['uid']}, and no existing "
                    "object was found",
                )  # fmt: skip
            force = call.query.get("force") == "true"
            wanted["metadata"].setdefault("name", call.name)
            thing = managers.apply(call.manager, call.subresource, live, wanted, force=force)
            if live is None:
                thing["metadata"].pop("resourceVersion", None)
                return 201, self._create(call, thing, managers, applied=True)
            if not wanted["metadata"].get("resourceVersion"):
                thing["metadata"].pop("resourceVersion", None)
            return 200, self._update(call, live, thing, managers, applied=True)

    def delete(self, call: Call, options: Json) -> Json:
        """What the answer's body is: the object when it still stands or its type returns it, else a Status."""
        with self.storage.lock:
            live = self.get(call)
            self._preconditions(call, live, options.get("preconditions") or {})
            if call.dry:
                return live
            grace = self._grace(call.resource, live, options)
            propagation = options.get("propagationPolicy") or "Background"
            metadata = copy.deepcopy(live["metadata"])
            finalizers = list(metadata.get("finalizers") or ())
            for policy, name in (("Foreground", "foregroundDeletion"), ("Orphan", "orphan")):
                if propagation == policy and name not in finalizers and not metadata.get("deletionTimestamp"):
                    finalizers.append(name)
            held = bool(finalizers) or (
                call.resource == NAMESPACES and (live.get("spec") or {}).get("finalizers")
            )
            if not grace and not held:
                return self._gone(call, self.storage.remove(call.key))
            former = metadata.get("deletionGracePeriodSeconds")
            if metadata.get("deletionTimestamp") and (former is None or grace >= former):
                return live
            metadata["deletionTimestamp"] = stamp(datetime.now(UTC) + timedelta(seconds=grace))
            metadata["deletionGracePeriodSeconds"] = grace
            if finalizers:
                metadata["finalizers"] = finalizers
            if "generation" in metadata:
                metadata["generation"] += 1
            thing = {**live, "metadata": metadata}
            if call.resource == NAMESPACES:
                thing["status"] = {**live.get("status", {}), "phase": "Terminating"}
            return self.storage.put(call.key, thing)

    def _preconditions(self, call: Call, live: Json, wanted: Json) -> None:
        for name, what, happened in (
            ("uid", "UID", "deleted and then recreated"),
            ("resourceVersion", "ResourceVersion", "modified"),
        ):
            if wanted.get(name) is not None and wanted[name] != live["metadata"][name]:
                why = (
                    f"the {what} in the precondition ({wanted[name]}) does not match the {what} in record "
                    f"({live['metadata'][name]}). The object might have been {happened}"
                )
                group = call.resource.group
                kind = call.resource.kind + (f".{group}" if group else "")
                message = f'Operation cannot be fulfilled on {kind} "{call.name}": {why}'
                details = refusals.conflict(call.resource, call.name).details
                raise Refusal(409, message, details={**details, "kind": call.resource.kind})

    def _grace(self, resource: Resource, live: Json, options: Json) -> int:
        if resource != PODS or not (live.get("spec") or {}).get("nodeName"):
            return 0
        if live.get("status", {}).get("phase") in ("Failed", "Succeeded"):
            return 0
        grace = options.get("gracePeriodSeconds")
        if grace is None:
            grace = live["spec"].get("terminationGracePeriodSeconds", 30)
        return int(grace)

    def _gone(self, call: Call, last: Json) -> Json:
        if call.resource.plural in ("pods", "services", "persistentvolumeclaims", "serviceaccounts"):
            return last
        details = {"name": call.name, "kind": call.resource.plural, "uid": last["metadata"]["uid"]}
        if call.resource.group:
            details["group"] = call.resource.group
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        }


def _checked(thing: Json) -> None:
    """What cannot even be decoded. Raises Refusal (400)."""
    for name in ("labels", "annotations"):
        table = thing["metadata"].get(name)
        for value in (table or {}).values():
            if not isinstance(value, str):
                raise refusals.bad_request(
                    f'{thing["kind"]} in version "v1" cannot be handled as a {thing["kind"]}: json: cannot unmarshal '
                    f"{'number' if isinstance(value, int | float) else 'object'} into Go struct field "
                    f"ObjectMeta.metadata.{name} of type string"
                )
        if table == {}:
            del thing["metadata"][name]


def _kept(live: Json, thing: Json) -> None:
    """What the server fills in when an update leaves it out."""
    if thing["kind"] == "Service":
        spec, old = thing.setdefault("spec", {}), live.get("spec") or {}
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if name in old:
                spec.setdefault(name, old[name])
        numbers = {(port.get("port"), port.get("protocol", "TCP")): port for port in old.get("ports") or ()}
        for port in spec.get("ports") or ():
            same = numbers.get((port.get("port"), port.get("protocol", "TCP")))
            if same and "nodePort" in same and spec.get("type") in ("NodePort", "LoadBalancer"):
                port.setdefault("nodePort", same["nodePort"])
    if thing["kind"] == "Pod":
        spec, old = thing.setdefault("spec", {}), live.get("spec") or {}
        for name in (
            "nodeName",
            "tolerations",
            "priority",
            "preemptionPolicy",
            "serviceAccount",
            "serviceAccountName",
        ):
            if name in old:
                spec.setdefault(name, old[name])
