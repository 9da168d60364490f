"""The containers of `examples/kubernetes/`, run as a kubelet would: by the manifest's arguments, user, mounts and limits.

The database is a real one on the loopback. Where the manifests name an engine elsewhere, the one of this machine is given.
"""

from __future__ import annotations

import os
import re
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.ci.lab import SECRET, Deployment, Lab, free_port, until
from tests.docs.pages import ROOT
from tests.support.docker import MADE_BY_TEST
from tests.support.postgres import Postgres, postgres_lacks, programs

KUBERNETES = ROOT / "examples" / "kubernetes"
_SOCKET = "/var/run/docker.sock"
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
    """`place` is where the ConfigMap is mounted from, `given` what the Secrets hold."""

    lab: Lab
    place: Path
    given: Mapping[str, str]
    port: int
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

    def start(self, manifest: Thing, *, args: list[str] | None = None) -> Any:
        """The one container of its Pod."""
        pod = pod_of(manifest)
        [container] = pod["containers"]
        who, may = pod["securityContext"], container["securityContext"]
        assert may["allowPrivilegeEscalation"] is False
        words = args or [word.replace("0.0.0.0:9464", f"127.0.0.1:{self.port}") for word in container["args"]]
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
        return {
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
        return {"volumes": binds, "tmpfs": memory}

    def ask(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return int(answer.status)
        except OSError:
            return 0


@dataclass(frozen=True, kw_only=True)
class Pods:
    kubelet: Kubelet
    watch: Any
    configuration: str

    def log(self) -> str:
        return str(self.watch.logs().decode())


@contextmanager
def pods(lab: Lab) -> Iterator[Pods]:
    """The configuration applied, the Deployment's container started."""
    with ExitStack() as ends:
        kubelet = Kubelet(
            lab=lab,
            place=lab.folder / "configuration",
            given={"api-token": SECRET, "state-url": _database(ends)},
            port=free_port(),
        )
        configuration = _adapted(manifests()[("ConfigMap", "sandboxes")]["data"]["sandboxes.yaml"], lab)
        kubelet.put({"sandboxes.yaml": configuration})
        deployment = manifests()[("Deployment", "reconciler-watch")]
        first = kubelet.start(deployment, args=["apply", "--auto-approve"])
        assert first.wait(timeout=120)["StatusCode"] == 0, first.logs().decode()
        watch = kubelet.start(deployment)
        yield Pods(kubelet=kubelet, watch=watch, configuration=configuration)
        watch.stop(timeout=10)


def _database(ends: ExitStack) -> str:
    found = programs()
    assert found is not None
    folder = ends.enter_context(tempfile.TemporaryDirectory(prefix="rtest", dir="/tmp"))
    server = ends.enter_context(Postgres(Path(folder), found))
    server.run("CREATE ROLE watcher LOGIN PASSWORD 'of-the-tests'")
    server.run("CREATE DATABASE states OWNER watcher")
    return server.url(user="watcher", password="of-the-tests", database="states", socket=False)


def _adapted(text: str, lab: Lab) -> str:
    engine = r"    host: .*\n    tls: .*\n    bind: .*\n    url_host: .*\n"
    text, found = re.subn(engine, f"    host: unix://{_SOCKET}\n", lab.adapted(text))
    assert found == 1
    return text


def its_probes_are_answered(made: Pods) -> None:
    [container] = pod_of(manifests()[("Deployment", "reconciler-watch")])["containers"]
    for probe in ("livenessProbe", "readinessProbe"):
        path = container[probe]["httpGet"]["path"]
        until(lambda: made.kubelet.ask(path) == 200, made.log)  # noqa: B023


def a_changed_config_map_is_read_again(made: Pods) -> None:
    until(lambda: "2 of 2 ready" in made.log(), made.log)
    made.kubelet.put({"sandboxes.yaml": made.configuration.replace("version: 1", "version: 1 # anew")})
    until(lambda: "the configuration was read again" in made.log(), made.log)


def it_ends_well(made: Pods) -> None:
    made.watch.stop(timeout=60)
    made.watch.reload()
    assert made.watch.attrs["State"]["ExitCode"] == 0, made.log()


def the_job_puts_back_what_drifted(made: Pods) -> None:
    lab = made.kubelet.lab
    lab.kill_one()
    until(lambda: lab.all_run(1), made.log)
    job = made.kubelet.start(manifests()[("CronJob", "reconciler-drift")])
    assert job.wait(timeout=120)["StatusCode"] == 0, job.logs().decode()
    assert lab.all_run(2)


KUBELET = Deployment(
    lacks=postgres_lacks,
    opened=pods,
    checks=(
        its_probes_are_answered,
        a_changed_config_map_is_read_again,
        it_ends_well,
        the_job_puts_back_what_drifted,
    ),
)
