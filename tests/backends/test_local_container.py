"""`LocalContainerBackend`: the engine it chooses, and what it adds to what it hands on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import reconciler
import reconciler.backends
from reconciler.backends import LocalContainerBackend
from reconciler.backends.base import SandboxBackend
from reconciler.backends.docker import DockerBackend
from reconciler.engine.ready import wait_for_sandbox_ready
from reconciler.errors import ConfigError, Conflict, Unavailable
from reconciler.model.desired import Mount, SandboxSpec, Secret, SecretRef
from tests.backends.fake_container import Engine
from tests.support.docker import EngineStack, get_json


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path / "engine")
    yield made
    made.close()


Open = Callable[..., LocalContainerBackend]


@pytest.fixture
def local(engine: Engine, tmp_path: Path) -> Open:
    """On the fake `container`, with whatever options."""

    def made(**options: Any) -> LocalContainerBackend:
        known = {"binary": engine.binary, "root": str(tmp_path / "kept"), "image": "aio", "environ": {}}
        return LocalContainerBackend("apple", **{**known, **options})

    return made


def mounts_of(engine: Engine, name: str) -> list[tuple[str, str, bool]]:
    found = engine.container(name)["configuration"]["mounts"]
    return [(mount["source"], mount["destination"], "ro" in mount["options"]) for mount in found]


def environment_of(engine: Engine, name: str) -> list[str]:
    found: list[str] = engine.container(name)["configuration"]["initProcess"]["environment"]
    return found


# -- public names


def test_it_is_public_in_both_places() -> None:
    assert reconciler.LocalContainerBackend is LocalContainerBackend
    assert "LocalContainerBackend" in reconciler.__all__
    with pytest.raises(AttributeError, match="Nonsense"):
        reconciler.backends.Nonsense  # noqa: B018


def test_every_verb_is_handed_on() -> None:
    """A verb that is added to the contract must not be forgotten here."""
    contract = {name for name, _ in inspect.getmembers(SandboxBackend, inspect.isfunction) if name[0] != "_"}
    assert contract <= set(vars(LocalContainerBackend))


# -- the choice


@pytest.mark.parametrize(
    ("system", "script", "chosen"),
    [
        pytest.param(
            "Darwin", "#!/bin/sh\necho container 1.2", "apple", id="a Mac with a container that answers"
        ),
        pytest.param("Darwin", "#!/bin/sh\nexit 1", "docker", id="a Mac with a container that fails"),
        pytest.param("Darwin", None, "docker", id="a Mac without container"),
        pytest.param(
            "Linux", "#!/bin/sh\necho container 1.2", "docker", id="Linux, whatever is called container"
        ),
    ],
)
def test_the_engine_is_chosen(tmp_path: Path, system: str, script: str | None, chosen: str) -> None:
    path = tmp_path / "container"
    if script is not None:
        path.write_text(script)
        path.chmod(0o755)
    found = LocalContainerBackend(
        system=system, which=lambda name: str(path) if script and name == "container" else None, environ={}
    )
    assert found.runtime == chosen


def test_an_engine_that_is_named_is_not_doubted() -> None:
    made = LocalContainerBackend("apple", system="Linux", which=lambda _: None, binary="/nowhere/container")
    with pytest.raises(Unavailable, match="/nowhere/container"):
        made.list_running()


def test_another_engine_is_refused() -> None:
    with pytest.raises(ConfigError, match="'podman' is not known"):
        LocalContainerBackend("podman")


@pytest.mark.parametrize("runtime", ["docker", "apple"])
def test_an_option_that_the_engine_has_not_is_an_error(runtime: str) -> None:
    with pytest.raises(TypeError, match="colour"):
        LocalContainerBackend(runtime, colour="red")


def test_it_declares_what_the_engine_holds(local: Open) -> None:
    assert not local().capabilities.updatable
    docker = LocalContainerBackend("docker", environ={})
    assert docker.capabilities == DockerBackend.capabilities


# -- what it adds


def test_the_five_verbs_without_any_yaml(local: Open) -> None:
    backend = local(prefix="deer-flow-sandbox")
    info = backend.create(None, "ab12cd34")
    assert info.container_name == "deer-flow-sandbox-ab12cd34"
    assert wait_for_sandbox_ready(info.sandbox_url, 10)
    assert backend.discover("ab12cd34") == info
    assert backend.list_running() == [info]
    assert backend.is_alive(info)
    backend.destroy(info)
    assert backend.list_running() == []
    assert not backend.is_alive(info)


def test_a_restart_keeps_what_was_put_into_it(engine: Engine, local: Open) -> None:
    backend = local(environment={"LEVEL": "info"})
    info = backend.create(None, "a1")
    engine.kill("reconciler-a1")
    again = backend.restart(info, SandboxSpec())
    assert backend.is_alive(again)
    assert "LEVEL=info" in environment_of(engine, "reconciler-a1")


def test_environment_goes_into_every_sandbox_and_what_is_said_wins(engine: Engine, local: Open) -> None:
    ref = SecretRef(
        source="env", kind="env", target=("S",), digest="d", delivery="environment", value=Secret("s3cret")
    )
    backend = local(environment={"LEVEL": "info", "REGION": "eu", "KEY": "default"})
    backend.create("thread", "a1", spec=SandboxSpec(environment={"LEVEL": "debug"}, secrets={"KEY": ref}))
    backend.create(None, "a2")
    assert {"LEVEL=debug", "REGION=eu", "KEY=s3cret"} <= set(environment_of(engine, "reconciler-a1"))
    assert {"LEVEL=info", "REGION=eu", "KEY=default"} <= set(environment_of(engine, "reconciler-a2"))


def test_mounts_go_into_every_sandbox_and_what_is_said_wins(
    engine: Engine, local: Open, tmp_path: Path
) -> None:
    for name in ("skills", "own", "extra"):
        (tmp_path / name).mkdir()
    skills, own, extra = (str(tmp_path / name) for name in ("skills", "own", "extra"))
    backend = local(
        mounts=[(skills, "/mnt/skills", True), (skills, "/mnt/data", True), (skills, "/mnt/own", True)]
    )
    spec = SandboxSpec(mounts=(Mount(source=own, target="/mnt/own"),))
    backend.create("thread", "a1", [(extra, "/mnt/data", False)], spec=spec)
    assert sorted(mounts_of(engine, "reconciler-a1"), key=lambda mount: mount[1]) == [
        (extra, "/mnt/data", False),
        (own, "/mnt/own", False),
        (skills, "/mnt/skills", True),
    ]


@pytest.mark.parametrize(
    ("environ", "given", "host"),
    [
        pytest.param({}, None, "127.0.0.1", id="the bound address"),
        pytest.param({"DEER_FLOW_SANDBOX_HOST": "old"}, None, "old", id="the seed's variable"),
        pytest.param(
            {"DEER_FLOW_SANDBOX_HOST": "old", "RECONCILER_SANDBOX_HOST": "new"},
            None,
            "new",
            id="ours before it",
        ),
        pytest.param({"RECONCILER_SANDBOX_HOST": ""}, None, "127.0.0.1", id="an empty one says nothing"),
        pytest.param({"RECONCILER_SANDBOX_HOST": "new"}, "mine", "mine", id="the argument before all"),
    ],
)
def test_the_host_of_the_urls(local: Open, environ: dict[str, str], given: str | None, host: str) -> None:
    info = local(environ=environ, url_host=given).create(None, "a1")
    assert info.sandbox_url == f"http://{host}:{info.ports['http']}"


def test_what_came_before_is_taken_up_by_its_whole_name(engine: Engine, local: Open) -> None:
    engine.add("deer-flow-sandbox-ab12cd34")
    backend = local()
    found = backend.look("deer-flow-sandbox-ab12cd34")
    assert found is not None
    assert found.owner is None
    assert backend.list_running() == []


# -- on Docker


@pytest.fixture
def on_docker(docker_stack: EngineStack) -> Open:
    def made(**options: Any) -> LocalContainerBackend:
        known = {"host": docker_stack.host, "image": docker_stack.images.agent, "prefix": docker_stack.name}
        return LocalContainerBackend("docker", **{"environ": {}, **known, **options})

    return made


def test_a_real_container_has_it_all(docker_stack: EngineStack, on_docker: Open, tmp_path: Path) -> None:
    (tmp_path / "skills").mkdir()
    (tmp_path / "skills" / "note").write_text("read me")
    backend = on_docker(
        mounts=[(str(tmp_path / "skills"), "/mnt/skills", True)], environment={"LEVEL": "info"}
    )
    docker_stack.owns(f"{docker_stack.name}-ab12cd34")
    info = backend.create(None, "ab12cd34", [(str(tmp_path), "/mnt/data", False)])
    assert get_json(info.sandbox_url)["version"] == "1"
    assert backend.create(None, "ab12cd34") == info == backend.discover("ab12cd34")
    assert info in backend.list_running()
    assert backend.exec(info, ["sh", "-c", "cat /mnt/skills/note; echo $LEVEL"]).stdout == "read meinfo\n"
    assert backend.exec(info, ["sh", "-c", "touch /mnt/skills/x"]).exit_code != 0
    assert backend.exec(info, ["sh", "-c", "touch /mnt/data/x"]).exit_code == 0
    assert (tmp_path / "x").exists()
    usage = backend.usage(info)
    assert usage is not None
    assert usage.memory > 0
    backend.destroy(info)
    assert not backend.is_alive(info)
    assert backend.look("ab12cd34") is None
    assert not docker_stack.exists(f"{docker_stack.name}-ab12cd34")


def test_a_strangers_container_of_that_name_is_left_alone(docker_stack: EngineStack, on_docker: Open) -> None:
    stranger = docker_stack.stranger(f"{docker_stack.name}-a1")
    with pytest.raises(Conflict):
        on_docker().create(None, "a1")
    assert docker_stack.exists(stranger)


def test_a_docker_that_is_not_there_is_an_error() -> None:
    backend = LocalContainerBackend("docker", host="unix:///nowhere/docker.sock", environ={})
    with pytest.raises(Unavailable):
        backend.list_running()
