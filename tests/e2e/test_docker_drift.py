"""What changes behind the tool's back on a real engine: each is named in the plan, put right by an apply, and then
nothing is left to do.

A fleet of sandboxes that declare everything there is to declare; each is broken in a way of its own, all of them at
once, and each way is judged by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Struct, field

from reconciler.backends.containers import PREFIX
from reconciler.model.outcome import StepResult, StepStatus
from reconciler.model.plan import Action, Plan, Reason, Step
from tests.support.docker import EngineStack, Images, engine_stack, eventually
from tests.support.once import Verdicts, judged, once, passed
from tests.support.project import Project

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.usefixtures("docker_engine"), pytest.mark.slow]

_MI = 1024 * 1024
TEXT = """\
version: 1
stack: {stack}
backends: {{local: {{type: docker, stop_timeout: 2s, secrets_root: {folder}/secrets}}}}
sandboxes:
  full:
    for_each: [{names}]
    image: {image}
    entrypoint: [/entrypoint]
    command: [serve]
    environment: {{LEVEL: info, IMAGE_MARKER: mine}}
    secrets: {{TOKEN: {{env: TOKEN}}, OPEN: {{env: TOKEN, as: environment}}}}
    ports: [{{name: http, container: 8080}}, {{name: debug, container: 9000, bind: 127.0.0.2}}]
    mounts:
      - {{source: data, target: /mnt/data, read_only: true}}
      - {{type: volume, source: {volume}, target: /mnt/volume}}
      - {{type: tmpfs, target: /mnt/scratch, size: 1Mi}}
    resources: {{cpu: 0.5, memory: 64Mi, pids: 64, shm: 8Mi}}
    network: {{name: {network}}}
    security: {{read_only_root: true, cap_drop: [ALL], cap_add: [NET_BIND_SERVICE], no_new_privileges: true,
               seccomp: default, user: "1000", init: true}}
    runtime: runc
    restart: on-failure:3
    thread_id: t-1
    labels: {{team: search}}
  bare:
    replicas: 1
    image: {image}
"""


class Scene(Struct):
    """The fleet: broken, planned, applied, planned again. Containers by address, before and after."""

    stack: EngineStack
    project: Project
    before: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    after: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    at_rest: list[Plan] = field(default_factory=list)
    plan: Plan | None = None
    results: Mapping[str, StepResult] = field(default_factory=dict)
    again: list[Plan] = field(default_factory=list)

    def look(self) -> Mapping[str, Mapping[str, Any]]:
        return {item["Config"]["Labels"][f"{PREFIX}address"]: item for item in self.stack.containers()}

    def step(self, address: str) -> Step | None:
        assert self.plan is not None
        return next((step for step in self.plan.steps if step.address == address), None)

    def limits(self, container: str, **body: Any) -> None:
        """What `docker update` sends; the SDK's own method does not know all of it."""
        api = self.stack.client.api
        api._raise_for_status(api._post_json(api._url("/containers/{0}/update", container), data=body))


Do = Callable[[Scene, str], object]
Check = Callable[[Scene], None]


class Break(Struct, frozen=True, kw_only=True):
    """`changes` are the live and the declared value of each path that the plan must name as changed outside."""

    says: str
    do: Do
    action: Action
    reason: Reason
    changes: Mapping[str, tuple[object, object]] = field(default_factory=dict)
    detail: str = ""

    @property
    def address(self) -> str:
        return f'full["{self.says}"]'


def _drifts(says: str, do: Do, **changes: tuple[object, object]) -> Break:
    paths = {path.replace("__", "."): pair for path, pair in changes.items()}
    return Break(says=says, do=do, action=Action.UPDATE, reason=Reason.DRIFTED, changes=paths)


def _disconnect(scene: Scene, container: str) -> None:
    scene.stack.client.api.disconnect_container_from_network(container, _network(scene))


def _connect(scene: Scene, container: str) -> None:
    scene.stack.client.api.connect_container_to_network(container, "bridge")


def _move(scene: Scene, container: str) -> None:
    _connect(scene, container)
    _disconnect(scene, container)


def _network(scene: Scene) -> str:
    return f"{scene.stack.name}-net"


def _all_limits(scene: Scene, container: str) -> None:
    scene.limits(container, Memory=32 * _MI, MemorySwap=32 * _MI, NanoCpus=250_000_000, PidsLimit=32)


def _renamed_and_limited(scene: Scene, container: str) -> None:
    scene.stack.client.api.rename(container, f"{scene.stack.name}-renamed")
    scene.limits(container, PidsLimit=32)


def _paused_and_limited(scene: Scene, container: str) -> None:
    scene.limits(container, PidsLimit=32)
    scene.stack.client.api.pause(container)


def _kill(signal: str) -> Do:
    def kill(scene: Scene, container: str) -> None:
        scene.stack.client.api.kill(container, signal)
        eventually(lambda: not scene.stack.inspect(container)["State"]["Running"])

    return kill


BREAKS: tuple[Break, ...] = (
    _drifts("memory lowered", lambda s, c: s.limits(c, Memory=32 * _MI, MemorySwap=32 * _MI),
            resources__memory=(32 * _MI, 64 * _MI)),
    _drifts("memory raised", lambda s, c: s.limits(c, Memory=128 * _MI, MemorySwap=256 * _MI),
            resources__memory=(128 * _MI, 64 * _MI)),
    _drifts("cpu", lambda s, c: s.limits(c, NanoCpus=1_000_000_000), resources__cpu=(1.0, 0.5)),
    _drifts("pids", lambda s, c: s.limits(c, PidsLimit=100), resources__pids=(100, 64)),
    _drifts("pids without limit", lambda s, c: s.limits(c, PidsLimit=-1), resources__pids=(None, 64)),
    _drifts("restart", lambda s, c: s.limits(c, RestartPolicy={"Name": "always"}),
            restart=("always", "on-failure:3")),
    _drifts("all limits", _all_limits, resources__memory=(32 * _MI, 64 * _MI), resources__cpu=(0.25, 0.5),
            resources__pids=(32, 64)),
    _drifts("renamed", lambda s, c: s.stack.client.api.rename(c, f"{s.stack.name}-else"),
            container__name=("<stack>-else", "<name>")),
    _drifts("renamed and limited", _renamed_and_limited, container__name=("<stack>-renamed", "<name>"),
            resources__pids=(32, 64)),
    _drifts("disconnected", _disconnect, container__networks=("none", "<stack>-net")),
    _drifts("connected elsewhere too", _connect, container__networks=("bridge, <stack>-net", "<stack>-net")),
    _drifts("moved to another network", _move, container__networks=("bridge", "<stack>-net")),
    Break(says="paused", do=lambda s, c: s.stack.client.api.pause(c), action=Action.UPDATE, reason=Reason.PAUSED,
          changes={"container.paused": (True, False)}),
    Break(says="paused and limited", do=_paused_and_limited, action=Action.UPDATE, reason=Reason.PAUSED,
          changes={"container.paused": (True, False), "resources.pids": (32, 64)}),
    Break(says="stopped", do=lambda s, c: s.stack.client.api.stop(c, timeout=5), action=Action.REPAIR,
          reason=Reason.DEAD, detail="exit code"),
    Break(says="killed", do=_kill("KILL"), action=Action.REPAIR, reason=Reason.DEAD, detail="exit code 137 (SIGKILL)"),
    Break(says="removed", do=lambda s, c: s.stack.client.api.remove_container(c, force=True), action=Action.CREATE,
          reason=Reason.MISSING),
)  # fmt: skip


@pytest.fixture(scope="module")
def verdicts(
    docker_client: DockerClient, images: Images, docker_engine: str, tmp_path_factory: pytest.TempPathFactory
) -> Verdicts:
    def make() -> dict[str, str]:
        with engine_stack(docker_client, images, docker_engine) as stack:
            project = Project(tmp_path_factory.mktemp("drift"), environ={"TOKEN": "a-secret-8d2f"})
            return judged(_played(Scene(stack, project)), CHECKS)

    return once(tmp_path_factory, "docker-drift", make)


def _played(scene: Scene) -> Scene:
    """Made, broken, and put right."""
    stack, project = scene.stack, scene.project
    (project.folder / "data").mkdir()
    names = ", ".join([broken.says for broken in BREAKS] + ["left alone"])
    project.write(
        TEXT.format(stack=stack.name, folder=project.folder, image=stack.images.agent, names=names,
                    volume=stack.volume(), network=stack.network())
    )  # fmt: skip
    project.applied()
    scene.at_rest = [project.plan(), project.plan_closely()]
    scene.before = scene.look()
    for broken in BREAKS:
        broken.do(scene, scene.before[broken.address]["Id"])
    scene.limits(scene.before["bare[0]"]["Id"], Memory=64 * _MI, MemorySwap=64 * _MI, PidsLimit=77)
    report = project.apply()
    scene.plan, scene.results = report.plan, {str(result.address): result for result in report.results}
    scene.again = [project.plan(), project.plan_closely()]
    scene.after = scene.look()
    return scene


def _is_named_and_put_right(broken: Break, scene: Scene) -> None:
    step = scene.step(broken.address)
    assert step is not None, "the plan does not see it"
    told = Plan(stack="s", lineage="l", serial=0, steps=(step,)).text()
    assert (step.action, step.reason) == (broken.action, broken.reason), told
    assert broken.detail in step.detail, told
    container = scene.before[broken.address]
    words = {"<stack>": scene.stack.name, "<name>": container["Name"].removeprefix("/")}
    expected = {path: tuple(_filled(one, words) for one in pair) for path, pair in broken.changes.items()}
    assert {change.path: (change.before, change.after) for change in step.changes} == expected, told
    for change in step.changes:
        assert change.outside, f"{change.path} was changed outside:\n{told}"
        assert not change.forces_replacement, told
        assert change.position is not None
        assert "# outside" in told
    result = scene.results[broken.address]
    assert result.status is StepStatus.DONE, f"{result.error} ({result.hint})"
    now = scene.after[broken.address]
    kept = broken.action is Action.UPDATE or broken.reason is Reason.DEAD  # a restart is enough
    assert (now["Id"] == container["Id"]) == kept
    essence, before = _essence(now, container), _essence(container, now)
    assert {key: value for key, value in essence.items() if value != before[key]} == {}, (
        "not as it was at first"
    )
    for plan in scene.again:
        left = [step for step in plan.steps if step.address == broken.address]
        assert not left, plan.text()


def _filled(value: object, words: Mapping[str, str]) -> object:
    if not isinstance(value, str):
        return value
    for word, meant in words.items():
        value = value.replace(word, meant)
    return value


def _essence(item: Mapping[str, Any], first: Mapping[str, Any]) -> Mapping[str, Any]:
    """What must be as it was at first, but for what a replacement cannot keep: its name and the labels that say which
    one it is, the folder of its secrets."""
    config, host = dict(item["Config"]), dict(item["HostConfig"])
    same = item["Id"] == first["Id"]
    labels = {key: value for key, value in config.pop("Labels").items() if same or not key.startswith(PREFIX)}
    del config["Hostname"]
    mounts = [(m["Type"], m["Target"], m.get("ReadOnly"), m.get("TmpfsOptions")) for m in host.pop("Mounts")]
    return {
        "name": item["Name"] if same else "",
        "state": (item["State"]["Status"], item["State"]["Paused"]),
        "networks": sorted(item["NetworkSettings"]["Networks"]),
        "labels": labels,
        "mounts": mounts,
        **{f"Config.{key}": value for key, value in config.items()},
        **{f"HostConfig.{key}": value for key, value in host.items()},
    }


def _at_rest_there_is_nothing_to_do(scene: Scene) -> None:
    for plan in scene.at_rest:
        assert plan.empty, plan.text()


def _nothing_else_is_touched(scene: Scene) -> None:
    assert scene.plan is not None
    assert {step.address for step in scene.plan.steps} == {broken.address for broken in BREAKS}
    before, after = (dict(look['full["left alone"]']) for look in (scene.before, scene.after))
    for item in (before, after):
        item["Mounts"] = sorted(item["Mounts"], key=str)  # the engine shows them in any order
    assert before == after


def _what_is_not_declared_may_be_anything(scene: Scene) -> None:
    """Limits put on a sandbox that declares none are nobody's business."""
    assert scene.step("bare[0]") is None
    host = scene.after["bare[0]"]["HostConfig"]
    assert (host["Memory"], host["PidsLimit"]) == (64 * _MI, 77)


def _afterwards_there_is_nothing_to_do(scene: Scene) -> None:
    for plan in scene.again:
        assert plan.empty, plan.text()


WHOLE: Mapping[str, Check] = {
    "at rest there is nothing to do": _at_rest_there_is_nothing_to_do,
    "nothing else is touched": _nothing_else_is_touched,
    "what is not declared may be anything": _what_is_not_declared_may_be_anything,
    "afterwards there is nothing to do": _afterwards_there_is_nothing_to_do,
}
CHECKS: Mapping[str, Check] = {
    **{broken.says: partial(_is_named_and_put_right, broken) for broken in BREAKS},
    **WHOLE,
}


@pytest.mark.parametrize("broken", [broken.says for broken in BREAKS])
def test_it_is_named_and_put_right(broken: str, verdicts: Verdicts) -> None:
    passed(verdicts, broken)


@pytest.mark.parametrize("check", WHOLE)
def test_of_all_of_them(check: str, verdicts: Verdicts) -> None:
    passed(verdicts, check)
