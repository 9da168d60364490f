"""`KubernetesBackend`: the verbs. What a sandbox must look like is the manifests' business, what one is the reader's.

Only what carries our labels is ever changed or removed, or what the caller names by its uid. Looking changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from msgspec.structs import replace

from reconciler.backends.base import ExecResult, ProbeAnswer, SandboxBackend, Subscription
from reconciler.backends.containers import AIO_IMAGE, NAME_PREFIX, checked_id, free_labels
from reconciler.backends.kubernetes import commands, options
from reconciler.backends.kubernetes.beside import Beside
from reconciler.backends.kubernetes.capabilities import capabilities
from reconciler.backends.kubernetes.cluster import Cluster
from reconciler.backends.kubernetes.create import Creation
from reconciler.backends.kubernetes.find import Objects, runs
from reconciler.backends.kubernetes.look import Found, Reader
from reconciler.backends.kubernetes.order import Order
from reconciler.backends.kubernetes.origins import origins
from reconciler.backends.kubernetes.pod import readiness_probe
from reconciler.backends.kubernetes.remove import Removal
from reconciler.backends.kubernetes.update import Update
from reconciler.backends.own_deeds import OwnDeeds
from reconciler.errors import Conflict, NotFound, Permanent, Unsupported
from reconciler.model.capabilities import Support
from reconciler.model.desired import Mount, Readiness, SandboxSpec
from reconciler.model.drift import Provenance
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo, Usage

if TYPE_CHECKING:
    from reconciler.backends.kubernetes.events import ClusterEvents
    from reconciler.backends.kubernetes.metrics import Metrics
    from reconciler.backends.kubernetes.mirror import Mirror

_LOOKS_AT_ONCE = 8
_UNEXPLAINED = (Phase.PENDING, Phase.STARTING, Phase.UNREADY)


class KubernetesBackend(SandboxBackend):
    """Sandboxes as pods, or as `Sandbox` objects of agent-sandbox, in one namespace.

    `kubeconfig` and `context` say which cluster, as for `kubectl`; without either the one that `kubectl` talks to, or the
    one that this process runs in; `cluster_name` is what the state calls it, where its API server has several addresses. `api` is pod or agent-sandbox. `service` is ClusterIP, NodePort or none, and `access` how
    a sandbox is reached: service, node, pod, proxy (through the API server), or port-forward (by `kubectl`); `url` is a template that says otherwise,
    with {name}, {namespace} and {port}. `node_host` is the host in the URL of a node's port. `create_namespace` makes the
    namespace when it is missing. `host_paths` lets mounts name paths of the node. `pull` is missing, always or never,
    `image_pull_secrets` name Secrets of the namespace. `timeout` bounds each wait for the API server, `stop_timeout` the
    time a sandbox has to end by itself, `address_timeout` the wait for a pod's address, in seconds. `image` is for sandboxes
    that name none, `prefix` begins the names of objects.
    """

    def __init__(
        self,
        kubeconfig: str | None = None,
        *,
        context: str | None = None,
        cluster_name: str | None = None,
        namespace: str = "default",
        create_namespace: bool = False,
        api: str = "pod",
        service: str = "ClusterIP",
        access: str | None = None,
        url: str | None = None,
        node_host: str | None = None,
        host_paths: bool = False,
        pull: str = "missing",
        image: str = AIO_IMAGE,
        image_pull_secrets: Sequence[str] = (),
        prefix: str = NAME_PREFIX,
        timeout: float = 30.0,
        stop_timeout: float = 10.0,
        address_timeout: float = 60.0,
    ) -> None:
        options.check(api=api, service=service, access=access, url=url, pull=pull, prefix=prefix)
        reached = access or options.ACCESS[service]
        self.__dict__["capabilities"] = capabilities(service=service, host_paths=bool(host_paths))
        self._kind = "Sandbox" if api == "agent-sandbox" else "Pod"
        self._template = Order(
            sandbox_id="",
            name="",
            namespace=namespace,
            spec=SandboxSpec(),
            image=image,
            agent_sandbox=api == "agent-sandbox",
            service=service,
            pull=pull,
            pull_secrets=tuple(image_pull_secrets),
            grace=max(0, round(float(stop_timeout))),
        )
        self._cluster = Cluster(kubeconfig, context=context, namespace=namespace, timeout=float(timeout))
        reader = Reader(
            namespace=namespace,
            access=reached,
            node=node_host,
            server=self._server,
            url=url,
            kubectl=options.kubectl(kubeconfig, context, namespace),
        )
        self._objects = Objects(self._cluster, reader, self._kind, prefix)
        beside = Beside(self._cluster)
        self._removal = Removal(self._cluster, beside, self._kind, self._template.grace)
        self._creation = Creation(
            self._cluster,
            self._objects,
            beside,
            self._removal,
            create_namespace=bool(create_namespace),
            address_within=float(address_timeout) if reached == "pod" and url is None else 0.0,
        )
        self._update = Update(self._cluster, self._objects, beside)
        self._access = reached
        self._cluster_name = cluster_name
        self._deeds = OwnDeeds()
        self._listening: list[ClusterEvents] = []
        self._mirror: Mirror | None = None
        self._metrics: Metrics | None = None

    def _server(self) -> str:
        return self._cluster.server

    # -- create

    def create(
        self,
        thread_id: str | None,
        sandbox_id: str,
        extra_mounts: list[tuple[str, str, bool]] | None = None,
        *,
        spec: SandboxSpec | None = None,
    ) -> SandboxInfo:
        spec = spec or SandboxSpec()
        checked_id(sandbox_id)
        extra = tuple(Mount(source=s, target=t, read_only=r) for s, t, r in extra_mounts or ())
        spec = replace(spec, mounts=(*spec.mounts, *extra))
        self._refuse_unheld(spec)
        with self._deeds.doing(sandbox_id, "create"):
            return self._creation.create(self._order(sandbox_id, spec, thread_id))

    def _order(self, sandbox_id: str, spec: SandboxSpec, thread_id: str | None = None) -> Order:
        spec = self._held(spec)
        return replace(
            self._template,
            sandbox_id=sandbox_id,
            name=self._objects.name(sandbox_id),
            spec=spec,
            image=spec.image or self._template.image,
            mounts=spec.mounts,
            thread_id=thread_id if thread_id is not None else spec.thread_id,
            secret_values=_values(spec),
            expires=None if spec.lifetime is None else time.time() + spec.lifetime,
        )

    def _held(self, spec: SandboxSpec) -> SandboxSpec:
        """Without what `unsupported: warn` lets it go without."""
        return options.without_unheld(spec, self.capabilities) if spec.unsupported_warn else spec

    def _refuse_unheld(self, spec: SandboxSpec) -> None:
        """Planning says it earlier and better; a plain caller must not get less than asked for either."""
        able = self.capabilities
        refused = {
            path: able.reason(path, value)
            for path, value in spec.canonical().items()
            if able.support(path, value) is Support.REFUSED
        }
        if refused and not spec.unsupported_warn:
            told = "; ".join(f"{path}: {why}" if why else path for path, why in refused.items())
            raise Unsupported(
                f"the kubernetes backend cannot hold {told}",
                hint="leave it out, or use another backend; `unsupported: warn` runs the sandbox without it",
            )
        foreign = set(spec.labels) - set(free_labels(spec.labels))
        if foreign:
            raise Permanent(
                f"labels {', '.join(sorted(foreign))} are this tool's own", hint="use other names"
            )

    # -- destroy

    def destroy(self, info: SandboxInfo) -> None:
        found = self._objects.find(info.sandbox_id)
        if found is None:
            self._removal.leftovers(info.sandbox_id, self._objects.name(info.sandbox_id))
            return
        self._refuse_strangers(found, info)
        with self._deeds.doing(info.sandbox_id, "destroy"):
            self._removal.end(found)

    def _refuse_strangers(self, found: Found, info: SandboxInfo) -> None:
        """What does not carry our labels is touched only when the caller names it by its uid."""
        if not found.is_labelled and found.uid != info.container_id:
            raise Conflict(
                f"{found.name} is not ours, so it is left alone",
                hint="it carries no labels of this tool; change or remove it by hand",
            )

    # -- look

    def is_alive(self, info: SandboxInfo) -> bool:
        """While readiness is waited for, the shared watch answers for what it knows to live; else the API server does."""
        if self._mirror is not None and self._mirror.vouches_for(info):
            return True
        return runs(self._seen(info.sandbox_id))

    def discover(self, sandbox_id: str) -> SandboxInfo | None:
        seen = self._seen(sandbox_id)
        return seen.info if seen is not None and runs(seen) else None

    def list_running(self) -> list[SandboxInfo]:
        """Those that definitely do not run are left out: one of which that cannot be told stays in."""
        return [seen.info for seen in self._objects.all() if _may_run(seen)]

    def observe(self) -> Sequence[ObservedSandbox]:
        """One listing, and one more of each kind that stands beside a sandbox."""
        return self._objects.all()

    def look(self, sandbox_id: str) -> ObservedSandbox | None:
        found = self._objects.find(sandbox_id)
        if found is None:
            return None
        seen = self._objects.reader.seen(found)
        if seen.phase in _UNEXPLAINED and not seen.detail:
            return self._objects.reader.seen(found, tuple(self._cluster.warnings(found.pod_name)))
        return seen

    def look_closely(self, sandbox_ids: Collection[str]) -> Sequence[ObservedSandbox]:
        ids = sorted(sandbox_ids)
        with ThreadPoolExecutor(min(_LOOKS_AT_ONCE, len(ids) or 1)) as pool:
            found = list(pool.map(self.look, ids))
        return [seen for seen in found if seen is not None]

    def _seen(self, sandbox_id: str) -> ObservedSandbox | None:
        found = self._objects.find(sandbox_id)
        return None if found is None else self._objects.reader.seen(found)

    # -- optional abilities

    def update(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        """Labels and the thread; and puts back a service or a network policy, and what was suspended."""
        found = self._ours(info)
        with self._deeds.doing(info.sandbox_id, "update"):
            return self._update.update(found, replace(self._order(info.sandbox_id, spec), name=found.name))

    def probe(self, info: SandboxInfo, readiness: Readiness, timeout: float) -> ProbeAnswer | None:
        """What the kubelet found, by one watch for all. None where the kubelet asks something else than is to be
        asked, and who asks needs a way there: where there is none, it is asked through the API server."""
        question = readiness_probe(SandboxSpec(readiness=readiness, ports=()))
        answer = None if question is None else self._watch().probe(info, readiness, timeout)
        if answer is not None or self._access != "port-forward":
            return answer
        from reconciler.backends.kubernetes.forward import ask

        return ask(self._cluster, self._pod(info), readiness, timeout)

    def _watch(self) -> Mirror:
        from reconciler.backends.kubernetes.mirror import Mirror

        if self._mirror is None or self._mirror.is_closed:
            self._mirror = Mirror(self._cluster, self._objects, self._kind)
        return self._mirror

    def request_headers(self, info: SandboxInfo) -> Mapping[str, str]:
        """The API server's proxy wants to know who asks."""
        return self._cluster.credentials() if self._access == "proxy" else {}

    def logs(self, info: SandboxInfo, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        return commands.logs(self._cluster, self._pod(info), tail=tail, follow=follow)

    def exec(self, info: SandboxInfo, command: Sequence[str], *, timeout: float = 60.0) -> ExecResult:
        """A sandbox that is just being started is waited for, as part of the time."""
        began = time.monotonic()
        found = self._pod(info, running=True)
        while not found.has_begun and (waited := time.monotonic() - began) < timeout:
            time.sleep(min(0.5, max(0.02, waited / 10)))
            found = self._pod(info, running=True)
        return commands.run(self._cluster, found, command, max(0.1, timeout - (time.monotonic() - began)))

    def _pod(self, info: SandboxInfo, *, running: bool = False) -> Found:
        found = self._objects.find(info.sandbox_id)
        seen = None if found is None else self._objects.reader.seen(found)
        if found is None or seen is None or (running and not runs(seen)):
            told = f": {seen.detail}" if seen is not None and seen.detail else ""
            raise NotFound(f"sandbox {info.sandbox_id} is not running{told}")
        return found

    def _ours(self, info: SandboxInfo) -> Found:
        found = self._objects.find(info.sandbox_id)
        if found is None:
            raise NotFound(f"there is no sandbox {info.sandbox_id}")
        self._refuse_strangers(found, info)
        return found

    def usage(self, info: SandboxInfo) -> Usage | None:
        """By one listing for all; None on a cluster without a metrics API."""
        from reconciler.backends.kubernetes.metrics import Metrics

        self._metrics = self._metrics or Metrics(self._cluster)
        return self._metrics.of(info)

    def listen(self, tell: Callable[[str], None]) -> Subscription:
        from reconciler.backends.kubernetes.events import ClusterEvents

        self._listening = [one for one in self._listening if not one.is_closed]
        self._listening.append(ClusterEvents(self._cluster, self._kind, tell))
        return self._listening[-1]

    def provenance(self, sandbox_ids: Collection[str]) -> Mapping[str, Provenance]:
        """A listing, and the cluster's memory of what is gone."""
        return origins(self._cluster, self._objects, sandbox_ids, self._deeds)

    def place(self) -> str:
        """The API server's address, or the cluster's name, and the namespace."""
        return f"{self._cluster_name or self._cluster.server} namespace {self._cluster.namespace}"

    def check(self) -> Sequence[tuple[str, bool, str]]:
        return commands.check(self._cluster, self._kind)

    def close(self) -> None:
        for one in self._listening:
            one.close()
        if self._mirror is not None:
            self._mirror.close()
        self._cluster.close()


def _may_run(seen: ObservedSandbox) -> bool:
    return seen.phase is Phase.UNKNOWN or runs(seen)


def _values(spec: SandboxSpec) -> dict[str, str]:
    """The secrets in clear. Raises Permanent when one was not resolved."""
    found: dict[str, str] = {}
    for name, ref in spec.secrets.items():
        if ref.value is None:
            raise Permanent(f"the secret {name} has no value", hint=f"it comes from {ref.source}")
        found[name] = ref.value.reveal()
    return found
