"""A plain HTTP client for whatever cluster a kubeconfig leads to, for tests of the server itself and for cleaning up.

It knows no more than a token, a client certificate and a CA: what the product's own client can do is tested elsewhere.
"""

from __future__ import annotations

import base64
import ssl
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

Json = dict[str, Any]
APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, kw_only=True)
class Reach:
    """`http` talks to the API server; `namespace` is the caller's own; `nodes` is whether pods run there."""

    kind: str  # fake or cluster
    http: httpx.Client
    kubeconfig: Path
    namespace: str
    nodes: bool

    def path(self, plural: str, name: str = "", *, group: str = "", namespace: str = "") -> str:
        """`group` as in `coordination.k8s.io/v1`; the core group is ""."""
        base = f"/apis/{group}" if group else "/api/v1"
        end = f"/{name}" if name else ""
        return f"{base}/namespaces/{namespace or self.namespace}/{plural}{end}"

    def ask(
        self, method: str, path: str, body: object = None, *, kind: str = "application/json", **query: Any
    ) -> httpx.Response:
        content = None if body is None else httpx.Request("POST", "http://x", json=body).content
        headers = {"Content-Type": kind} if body is not None else {}
        params = {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in query.items()
        }
        return self.http.request(method, path, content=content, headers=headers, params=params)

    def apply(self, path: str, body: object, manager: str = "mine", **query: Any) -> httpx.Response:
        return self.ask("PATCH", path, body, kind=APPLY, fieldManager=manager, **query)

    def gone(self, path: str) -> None:
        """Wait until nothing is there."""
        eventually(lambda: self.ask("GET", path).status_code == 404, f"{path} goes away")


def eventually(true: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """The first true value. Raises AssertionError when it never comes."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if value := true():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds:g} s: {what}")


def client(kubeconfig: Path) -> httpx.Client:
    """For the kubeconfig's current context."""
    document = yaml.safe_load(kubeconfig.read_text())

    def named(table: str, name: str, what: str) -> Json:
        found: Json = next(entry[what] for entry in document[table] if entry["name"] == name)
        return found or {}

    context = named("contexts", document["current-context"], "context")
    cluster = named("clusters", context["cluster"], "cluster")
    user = named("users", context["user"], "user")
    verify: ssl.SSLContext | bool = not cluster.get("insecure-skip-tls-verify", False)
    authority = _file(cluster, "certificate-authority", kubeconfig)
    certificate, key = _file(user, "client-certificate", kubeconfig), _file(user, "client-key", kubeconfig)
    if cluster["server"].startswith("https:"):
        made = ssl.create_default_context(cafile=authority)
        if verify is False:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        if certificate and key:
            made.load_cert_chain(certificate, key)
        verify = made
    headers = {"User-Agent": "semantics/1.0"}
    if token := user.get("token"):
        headers["Authorization"] = f"Bearer {token}"
    return httpx.Client(
        base_url=cluster["server"], verify=verify, headers=headers, timeout=30, trust_env=False
    )


def _file(entry: Json, name: str, beside: Path) -> str | None:
    """The file that an entry names, or one with what it holds itself."""
    if data := entry.get(f"{name}-data"):
        path = Path(tempfile.mkdtemp(prefix="kubeconfig-")) / name
        path.write_bytes(base64.b64decode(data))
        path.chmod(0o600)
        return str(path)
    return str(beside.parent / entry[name]) if entry.get(name) else None


def has_nodes(http: httpx.Client) -> bool:
    """Whether any node of the cluster is ready."""
    for node in http.get("/api/v1/nodes").json().get("items") or ():
        for condition in node.get("status", {}).get("conditions") or ():
            if condition["type"] == "Ready" and condition["status"] == "True":
                return True
    return False


def has_controllers(http: httpx.Client) -> bool:
    """Whether somebody ends namespaces and collects garbage: the controller manager gives each namespace an account."""
    accounts = http.get("/api/v1/namespaces/kube-system/serviceaccounts").json().get("items") or ()
    return any(account["metadata"]["name"] == "default" for account in accounts)
