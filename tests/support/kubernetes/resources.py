"""The resource types that the cluster serves, and the discovery documents that say so."""

from __future__ import annotations

from dataclasses import dataclass

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource type. `group` is "" for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    status: bool = False  # has a status subresource
    generation: bool = False  # counts changes of its spec in metadata.generation
    subresources: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def key(self) -> str:
        """`pods`, `leases.coordination.k8s.io`: how messages name the type."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def base(self) -> str:
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"


NAMESPACES = Resource(
    group="", version="v1", plural="namespaces", kind="Namespace", namespaced=False, status=True
)
PODS = Resource(
    group="", version="v1", plural="pods", kind="Pod", short=("po",), status=True,
    subresources=("log", "exec", "attach", "portforward", "eviction", "binding"),
)  # fmt: skip
SANDBOXES = Resource(
    group="agents.x-k8s.io",
    version="v1beta1",
    plural="sandboxes",
    kind="Sandbox",
    status=True,
    generation=True,
)
POLICIES = Resource(
    group="networking.k8s.io", version="v1", plural="networkpolicies", kind="NetworkPolicy", generation=True
)
SERVICES = Resource(group="", version="v1", plural="services", kind="Service", short=("svc",), status=True)
CLAIMS = Resource(
    group="", version="v1", plural="persistentvolumeclaims", kind="PersistentVolumeClaim", status=True
)
EVENTS = Resource(group="", version="v1", plural="events", kind="Event", short=("ev",))
NODES = Resource(group="", version="v1", plural="nodes", kind="Node", namespaced=False, status=True)
SECRETS = Resource(group="", version="v1", plural="secrets", kind="Secret")
LEASES = Resource(group="coordination.k8s.io", version="v1", plural="leases", kind="Lease")
ALL = (
    NAMESPACES,
    PODS,
    SERVICES,
    SECRETS,
    EVENTS,
    CLAIMS,
    NODES,
    Resource(group="", version="v1", plural="configmaps", kind="ConfigMap", short=("cm",)),
    Resource(group="", version="v1", plural="serviceaccounts", kind="ServiceAccount", short=("sa",)),
    Resource(group="", version="v1", plural="resourcequotas", kind="ResourceQuota", status=True),
    POLICIES,
    LEASES,
    Resource(
        group="apps", version="v1", plural="deployments", kind="Deployment", status=True, generation=True
    ),
    Resource(
        group="node.k8s.io", version="v1", plural="runtimeclasses", kind="RuntimeClass", namespaced=False
    ),
    Resource(group="rbac.authorization.k8s.io", version="v1", plural="roles", kind="Role"),
    Resource(group="rbac.authorization.k8s.io", version="v1", plural="rolebindings", kind="RoleBinding"),
)


def discovery(path: str, resources: tuple[Resource, ...], address: str) -> dict[str, object] | None:
    """The document at `path` (/version, /api, /apis, /api/v1, /apis/<group>[/<version>]); None when there is none."""
    groups = sorted({(resource.group, resource.version) for resource in resources if resource.group})
    if path == "/version":
        return {
            "major": "1", "minor": "33", "gitVersion": "v1.33.1", "gitCommit": "0" * 40, "gitTreeState": "clean",
            "buildDate": "2025-05-15T08:19:08Z", "goVersion": "go1.24.2", "compiler": "gc", "platform": "linux/amd64",
        }  # fmt: skip
    if path == "/api":
        where = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": where}
    if path == "/apis":
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [_group(group, version) for group, version in groups],
        }
    for group, version in groups:
        if path == f"/apis/{group}":
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, version)}
    here = [resource for resource in resources if resource.base == path]
    if not here:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": here[0].api_version,
        "resources": [entry for resource in here for entry in _entries(resource)],
    }


def _group(group: str, version: str) -> dict[str, object]:
    named = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [named], "preferredVersion": named}


def _entries(resource: Resource) -> list[dict[str, object]]:
    entry: dict[str, object] = {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(VERBS),
    }
    if resource.short:
        entry["shortNames"] = list(resource.short)
    below = (*resource.subresources, *(("status",) if resource.status else ()))
    return [
        entry,
        *(
            {
                "name": f"{resource.plural}/{name}",
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": resource.kind,
                "verbs": ["get", "patch", "update"] if name == "status" else ["create", "get"],
            }
            for name in below
        ),
    ]
