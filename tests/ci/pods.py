"""The containers of `examples/kubernetes/`, run as a kubelet would: by the manifest's arguments, user, mounts and limits.

The API server is the fake one, with TLS on the loopback; it knows the Pods' account alone, and lets it do what the manifests' Role
says and no more. Where the manifests name an engine elsewhere, the one of this machine is given.
"""

from __future__ import annotations

import os
import re
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.ci.lab import SECRET, Deployment, Lab, free_port, until
from tests.docs.pages import ROOT
from tests.support.docker import MADE_BY_TEST
from tests.support.kubernetes.admission import Rule
from tests.support.kubernetes.certificates import Authority
from tests.support.kubernetes.cluster import Cluster, running

KUBERNETES = ROOT / "examples" / "kubernetes"
_SOCKET = "/var/run/docker.sock"
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_USER, _TOKEN = "system:serviceaccount:reconciler:reconciler", "token-of-the-account"
_NAMESPACE = "reconciler"
Thing = dict[str, Any]


def manifests() -> dict[tuple[str, str], Thing]:
    """(kind, name) of everything in the folder. What is there twice is there twice the same."""
    found: dict[tuple[str, str], Thing] = {}
    for file in sorted(KUBERNETES.glob("*.yaml")):
        for each in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            key = (each["kind"], each["metadata"]["name"])
            assert found.get(key, each) == each, f"{key} is there twice, and not the same"
            found[key] = each
    return found


def pod_of(manifest: Thing) -> Thing:
    spec = manifest["spec"]
    pod: Thing = (spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec)["template"]["spec"]
    return pod


@dataclass(kw_only=True)
class Kubelet:
    """`place` is where the ConfigMap is mounted from, `given` what the Secrets hold, `account` the folder of the token. Each Pod
    that is started listens on a port of its own."""

    lab: Lab
    place: Path
    given: Mapping[str, str]
    account: Path
    cluster: Cluster
    versions: int = 0

    def put(self, files: Mapping[str, str]) -> None:
        """As a kubelet does: all at once, by one link that moves."""
        self.versions += 1
        folder = self.place / f"..{self.versions}"
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
            if not (self.place / name).is_symlink():
                (self.place / name).symlink_to(f"..data/{name}")
        (self.place / "..fresh").symlink_to(folder.name)
        os.replace(self.place / "..fresh", self.place / "..data")

    def start(self, manifest: Thing, *, args: list[str] | None = None, port: int = 0) -> Any:
        """The one container of its Pod. What it is to serve it serves on that port."""
        pod = pod_of(manifest)
        [container] = pod["containers"]
        who, may = pod["securityContext"], container["securityContext"]
        assert may["allowPrivilegeEscalation"] is False
        words = args or [word.replace("0.0.0.0:9464", f"127.0.0.1:{port}") for word in container["args"]]
        return self.lab.stack.client.containers.run(
            self.lab.image,
            words,
            detach=True,
            labels={MADE_BY_TEST: self.lab.stack.name},
            user=f"{who['runAsUser']}:{who['runAsGroup']}",
            group_add=[str(who["fsGroup"]), str(self.lab.socket_group)],
            read_only=may["readOnlyRootFilesystem"],
            cap_drop=may["capabilities"]["drop"],
            security_opt=["no-new-privileges"],
            mem_limit=container["resources"]["limits"]["memory"].replace("Mi", "m"),
            environment=self._environment(container),
            network_mode="host",
            **self._mounts(pod, container),
        )

    def _environment(self, container: Thing) -> dict[str, str]:
        references = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container["env"]}
        _, host, port = self.cluster.url.replace("//", "").split(":")
        account = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        return account | {
            name: self.given[reference["key"]]
            for name, reference in references.items()
            if reference["key"] in self.given or not reference.get("optional")
        }

    def _mounts(self, pod: Thing, container: Thing) -> dict[str, Any]:
        volumes = {each["name"]: each for each in pod["volumes"]}
        binds = {self.lab.socket: {"bind": _SOCKET, "mode": "rw"}}
        memory = {}
        for mount in container["volumeMounts"]:
            volume = volumes[mount["name"]]
            if "emptyDir" in volume:
                memory[mount["mountPath"]] = f"size={volume['emptyDir']['sizeLimit'].replace('Mi', 'm')}"
            elif "configMap" in volume:
                binds[str(self.place)] = {"bind": mount["mountPath"], "mode": "ro"}
        if pod["automountServiceAccountToken"]:
            binds[str(self.account)] = {"bind": _ACCOUNT, "mode": "ro"}
        return {"volumes": binds, "tmpfs": memory}


@dataclass(frozen=True, kw_only=True)
class Replica:
    """One Pod of the Deployment."""

    container: Any
    port: int

    def log(self) -> str:
        return str(self.container.logs().decode())

    def said(self, path: str) -> str:
        """What it answers with 200; "" for anything else."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""


@dataclass(frozen=True, kw_only=True)
class Pods:
    kubelet: Kubelet
    replicas: tuple[Replica, ...]
    configuration: str

    def log(self) -> str:
        return "\n".join(f"--- {at}\n{replica.log()}" for at, replica in enumerate(self.replicas))

    def leaders(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.said("/readyz") == "ok: leads\n"]


@contextmanager
def pods(lab: Lab) -> Iterator[Pods]:
    """The configuration applied, the Deployment's containers started."""
    with running(nodes=False) as cluster:
        kubelet = Kubelet(
            lab=lab,
            place=lab.folder / "configuration",
            given={"api-token": SECRET},
            account=_account(cluster, lab.folder / "account"),
            cluster=cluster,
        )
        configuration = _adapted(manifests()[("ConfigMap", "sandboxes")]["data"]["sandboxes.yaml"], lab)
        kubelet.put({"sandboxes.yaml": configuration})
        deployment = manifests()[("Deployment", "reconciler-watch")]
        first = kubelet.start(deployment, args=["apply", "--auto-approve"])
        assert first.wait(timeout=120)["StatusCode"] == 0, first.logs().decode()
        replicas = tuple(
            Replica(container=kubelet.start(deployment, port=port), port=port)
            for port in (free_port() for _ in range(deployment["spec"]["replicas"]))
        )
        yield Pods(kubelet=kubelet, replicas=replicas, configuration=configuration)
        for replica in replicas:
            replica.container.stop(timeout=10)


def _account(cluster: Cluster, folder: Path) -> Path:
    """What is mounted into the Pods of the account, which may do what its Role says."""
    folder.mkdir()
    cluster.make("v1", "Namespace", _NAMESPACE)
    authority = Authority(folder)
    cluster.server.secure(authority.server_context("127.0.0.1"))
    cluster.server.users.tokens = {_TOKEN: _USER}
    binding = manifests()[("RoleBinding", "reconciler-state")]
    assert [f"system:serviceaccount:{who['namespace']}:{who['name']}" for who in binding["subjects"]] == [
        _USER
    ]
    role = manifests()[("Role", binding["roleRef"]["name"])]
    cluster.admission.rules = {
        _USER: tuple(
            Rule(
                verbs=tuple(rule["verbs"]),
                resources=tuple(rule["resources"]),
                namespace=role["metadata"]["namespace"],
            )
            for rule in role["rules"]
        )
    }
    for private in folder.glob("*.key"):
        private.unlink()
    (folder / "token").write_text(_TOKEN)
    (folder / "namespace").write_text(_NAMESPACE)
    for file in folder.iterdir():
        file.chmod(0o644)
    folder.chmod(0o755)
    return folder


def _adapted(text: str, lab: Lab) -> str:
    engine = r"    host: .*\n    tls: .*\n    bind: .*\n    url_host: .*\n"
    text, found = re.subn(engine, f"    host: unix://{_SOCKET}\n", lab.adapted(text))
    assert found == 1
    return text


def one_leads_and_the_other_stands_by_and_both_answer_their_probes(made: Pods) -> None:
    until(lambda: len(made.leaders()) == 1, made.log)
    [container] = pod_of(manifests()[("Deployment", "reconciler-watch")])["containers"]
    for probe in ("livenessProbe", "readinessProbe"):
        path = container[probe]["httpGet"]["path"]
        for replica in made.replicas:
            until(lambda: replica.said(path).startswith("ok: "), made.log)  # noqa: B023
    assert len(made.leaders()) == 1
    assert [
        lease["metadata"]["name"]
        for lease in _leases(made.kubelet.cluster)
        if lease["spec"].get("holderIdentity")
    ]


def _leases(cluster: Cluster) -> list[Thing]:
    with cluster.storage.lock:
        leases = next(resource for resource in cluster.known() if resource.kind == "Lease")
        return cluster.storage.list(leases, _NAMESPACE)


def a_changed_config_map_is_read_again(made: Pods) -> None:
    [leader] = made.leaders()
    until(lambda: "2 of 2 ready" in leader.log(), made.log)
    made.kubelet.put({"sandboxes.yaml": made.configuration.replace("version: 1", "version: 1 # anew")})
    until(lambda: "the configuration was read again" in leader.log(), made.log)


def the_other_leads_once_the_first_is_killed_and_puts_back(made: Pods) -> None:
    lab = made.kubelet.lab
    [leader] = made.leaders()
    leader.container.kill()
    lab.kill_one()
    until(lambda: [other for other in made.leaders() if other is not leader], made.log)
    until(lambda: lab.all_run(2), made.log)


def it_ends_well(made: Pods) -> None:
    [leader] = made.leaders()
    leader.container.stop(timeout=60)
    leader.container.reload()
    assert leader.container.attrs["State"]["ExitCode"] == 0, made.log()


def the_job_puts_back_what_drifted(made: Pods) -> None:
    lab = made.kubelet.lab
    lab.kill_one()
    until(lambda: lab.all_run(1), made.log)
    job = made.kubelet.start(manifests()[("CronJob", "reconciler-drift")])
    assert job.wait(timeout=120)["StatusCode"] == 0, job.logs().decode()
    assert lab.all_run(2)


def nothing_was_asked_for_that_the_role_forbids(made: Pods) -> None:
    assert "docs/stores.md has one" not in made.log()
    asked = {(request.method, request.path.split("/")[-1]) for request in made.kubelet.cluster.log}
    assert ("PUT", f"reconciler-state-{made.kubelet.lab.stack.name}.watch") in asked


KUBELET = Deployment(
    lacks=lambda: "",
    opened=pods,
    checks=(
        one_leads_and_the_other_stands_by_and_both_answer_their_probes,
        a_changed_config_map_is_read_again,
        the_other_leads_once_the_first_is_killed_and_puts_back,
        it_ends_well,
        the_job_puts_back_what_drifted,
        nothing_was_asked_for_that_the_role_forbids,
    ),
)
