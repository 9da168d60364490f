"""The apple backend on a fake `container`: what the conformance suite does not ask."""

from __future__ import annotations

import json
import os
import secrets
import socket
import stat
from pathlib import Path
from threading import Timer

import pytest

from reconciler.backends.apple import AppleBackend
from reconciler.backends.containers import SEED_PREFIX
from reconciler.backends.registry import open_backend
from reconciler.engine.ready import wait_for_sandbox_ready
from reconciler.errors import (
    Conflict,
    NotFound,
    Permanent,
    Transient,
    Unavailable,
    Unsupported,
)
from reconciler.model.desired import (
    BackendConfig,
    Network,
    NetworkMode,
    Port,
    ProbeKind,
    Readiness,
    Resources,
    SandboxSpec,
    Security,
)
from reconciler.model.observed import Phase, SandboxInfo
from tests.backends.apple.builders import backend_on, secret
from tests.backends.fake_container import OLD, Engine


@pytest.fixture
def backend(engine: Engine, tmp_path: Path) -> AppleBackend:
    return backend_on(engine, tmp_path)


def verbs(engine: Engine) -> list[str]:
    return [call[0] for call in engine.calls()]


def environment_of(engine: Engine, name: str) -> dict[str, str]:
    made = engine.container(name)["configuration"]["initProcess"]["environment"]
    return {key: value for key, _, value in (entry.partition("=") for entry in made)}


# -- calls


def test_a_sandbox_answers_at_its_url(backend: AppleBackend) -> None:
    info = backend.create(None, "a1")
    assert wait_for_sandbox_ready(info.sandbox_url, 10)


def test_a_listing_is_one_call_and_so_is_a_discovery(engine: Engine, backend: AppleBackend) -> None:
    for sandbox_id in ("a1", "a2"):
        backend.create(None, sandbox_id)
    engine.forget_calls()
    backend.observe()
    assert engine.calls() == [["ls", "-a", "--format", "json"]]
    engine.forget_calls()
    backend.discover("a2")
    assert engine.calls() == [["inspect", "reconciler-a2"]]


def test_a_creation_is_a_run_and_a_look_at_what_came_of_it(engine: Engine, backend: AppleBackend) -> None:
    backend.create(None, "a1")
    assert verbs(engine) == ["run", "inspect"]


def test_a_removal_stops_then_deletes_then_looks(engine: Engine, backend: AppleBackend) -> None:
    info = backend.create(None, "a1")
    engine.forget_calls()
    backend.destroy(info)
    assert engine.calls()[1:3] == [["stop", "-t", "10", "reconciler-a1"], ["delete", "-f", "reconciler-a1"]]
    assert verbs(engine) == ["inspect", "stop", "delete", "inspect"]


# -- secrets and environment


@pytest.mark.parametrize("delivery", ["file", "environment"])
def test_no_value_is_ever_an_argument(engine: Engine, backend: AppleBackend, delivery: str) -> None:
    canary = f"canary-{secrets.token_hex(8)}"
    spec = SandboxSpec(
        environment={"LEVEL": f"{canary}-plain", "TEXT": f"{canary}\nsecond line"},
        secrets={"TOKEN": secret(f"{canary}-secret", delivery), "KEY": secret(f"{canary}\nkey", delivery)},
    )
    info = backend.create(None, "a1", spec=spec)
    backend.destroy(info)
    assert canary not in json.dumps(engine.calls())


def test_values_arrive_as_they_were(engine: Engine, backend: AppleBackend) -> None:
    values = {
        "PLAIN": "info",
        "EMPTY": "",
        "SPACES": "  two words  ",
        "SIGNS": "a=b#c\"d'e$HOME\\n",
        "LINES": "one\r\ntwo\u2028three",
        "LONG": "x" * 300_000,
    }
    backend.create(
        None, "a1", spec=SandboxSpec(environment=values, secrets={"S": secret("s3cret", "environment")})
    )
    arrived = environment_of(engine, "reconciler-a1")
    assert {name: arrived[name] for name in values} == values
    assert arrived["S"] == "s3cret"


def test_what_is_read_back_of_the_environment_is_what_was_declared(backend: AppleBackend) -> None:
    spec = SandboxSpec(environment={"LEVEL": "info"}, secrets={"S": secret("s3cret", "environment")})
    backend.create(None, "a1", spec=spec)
    seen = backend.look("a1")
    assert seen is not None
    assert seen.attributes is not None
    told = {path: value for path, value in seen.attributes.items() if path.startswith("environment.")}
    assert told == {"environment.LEVEL": "info"}


def test_secret_files_are_mounted_read_only_and_nobody_else_gets_in(
    engine: Engine, backend: AppleBackend, tmp_path: Path
) -> None:
    backend.create(None, "a1", spec=SandboxSpec(secrets={"TOKEN": secret("line\r\nä\n")}))
    [mount] = engine.container("reconciler-a1")["configuration"]["mounts"]
    assert (mount["destination"], mount["options"]) == ("/run/secrets", ["ro"])
    assert environment_of(engine, "reconciler-a1")["TOKEN_FILE"] == "/run/secrets/TOKEN"
    file = Path(mount["source"]) / "TOKEN"
    assert file.read_bytes() == "line\r\nä\n".encode()
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
    between = [folder for folder in file.parents[1:] if folder.is_relative_to(tmp_path / "kept")]
    assert len(between) == 4
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in between} == {0o700}


def test_secret_files_go_with_their_sandbox(backend: AppleBackend, tmp_path: Path) -> None:
    info = backend.create(None, "a1", spec=SandboxSpec(secrets={"TOKEN": secret("x")}))
    assert list(tmp_path.glob("kept/secrets/*/*/files/TOKEN"))
    backend.destroy(info)
    assert not list(tmp_path.glob("kept/secrets/*"))


def test_a_creation_that_fails_leaves_no_secret(backend: AppleBackend, tmp_path: Path) -> None:
    spec = SandboxSpec(image="no-such", secrets={"TOKEN": secret("x")})
    with pytest.raises(Permanent, match="no-such not found"):
        backend.create(None, "a1", spec=spec)
    assert not list(tmp_path.glob("kept/**/TOKEN"))


def test_secrets_left_by_a_killed_run_go_with_the_next_removal(backend: AppleBackend, tmp_path: Path) -> None:
    left = tmp_path / "kept/secrets/reconciler-a1/dead/files"
    left.mkdir(parents=True)
    (left / "TOKEN").write_text("x")
    left.chmod(0o555)
    backend.destroy(SandboxInfo("a1", ""))
    assert not list(tmp_path.glob("kept/secrets/*"))


def test_an_error_shows_no_value(engine: Engine, backend: AppleBackend) -> None:
    engine.set(fail={"run": "invalidArgument: \"no variable name on line 'canary-12345' canary-67890\""})
    spec = SandboxSpec(
        environment={"A": "canary-12345"}, secrets={"S": secret("canary-67890", "environment")}
    )
    with pytest.raises(Permanent) as caught:
        backend.create(None, "a1", spec=spec)
    assert "canary" not in caught.value.message
    assert "•••" in caught.value.message


def test_a_secret_without_a_value_is_refused(backend: AppleBackend) -> None:
    from msgspec.structs import replace

    spec = SandboxSpec(secrets={"TOKEN": replace(secret("x"), value=None)})
    with pytest.raises(Permanent, match="TOKEN has no value"):
        backend.create(None, "a1", spec=spec)


def test_an_id_that_is_a_path_reaches_nothing(backend: AppleBackend, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    backend.destroy(SandboxInfo("x/../../../outside", ""))
    assert outside.is_dir()


# -- ports


def test_a_port_that_was_taken_meanwhile_is_chosen_anew(engine: Engine, backend: AppleBackend) -> None:
    engine.set(taken=2)
    assert wait_for_sandbox_ready(backend.create(None, "a1").sandbox_url, 10)
    assert verbs(engine).count("run") == 3


def test_a_port_that_is_taken_again_and_again_ends(engine: Engine, backend: AppleBackend) -> None:
    engine.set(taken=99)
    with pytest.raises(Transient, match="taken the moment after"):
        backend.create(None, "a1")
    assert verbs(engine).count("run") == 5


def test_a_declared_port_that_is_taken_is_named(engine: Engine, backend: AppleBackend) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        spec = SandboxSpec(ports=(Port(name="http", container=8080, host=number),))
        with pytest.raises(Conflict, match=f"port {number} of 127.0.0.1, declared as http") as caught:
            backend.create(None, "a1", spec=spec)
    assert "auto" in caught.value.hint
    assert backend.look("a1") is None


def test_an_address_that_is_not_of_this_machine_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"192\.0\.2\.1 cannot be bound"):
        backend_on(engine, tmp_path, bind="192.0.2.1").create(None, "a1")


def test_several_ports_come_back_by_name(backend: AppleBackend) -> None:
    spec = SandboxSpec(ports=(Port(name="http", container=9000), Port(name="web", container=80)))
    info = backend.create(None, "a1", spec=spec)
    assert sorted(info.ports) == ["http", "web"]
    assert info.sandbox_url == f"http://127.0.0.1:{info.ports['http']}"


def test_the_url_has_the_host_that_clients_need(engine: Engine, tmp_path: Path) -> None:
    info = backend_on(engine, tmp_path, url_host="host.docker.internal").create(None, "a1")
    assert info.sandbox_url == f"http://host.docker.internal:{info.ports['http']}"


def test_without_a_network_there_is_no_url(backend: AppleBackend) -> None:
    spec = SandboxSpec(network=Network(mode=NetworkMode.ISOLATED))
    info = backend.create(None, "a1", spec=spec)
    assert (info.sandbox_url, info.ports) == ("", {})
    assert backend.is_alive(info)


# -- what is not ours


def test_a_name_that_a_stranger_has_is_a_conflict(engine: Engine, backend: AppleBackend) -> None:
    engine.add("reconciler-a1", "-l", "team=x")
    with pytest.raises(Conflict, match="not ours") as caught:
        backend.create(None, "a1")
    assert "container delete reconciler-a1" in caught.value.hint
    assert backend.look("a1") is None
    backend.destroy(SandboxInfo("a1", ""))
    assert engine.container("reconciler-a1") is not None


def test_a_similar_name_is_no_sandbox_of_ours(engine: Engine, backend: AppleBackend) -> None:
    engine.add("reconciler-a1-x", "-l", "sandbox-reconciler/sandbox-id=a1-x")
    assert backend.observe() == []
    assert backend.discover("a1") is None


def test_what_the_system_before_made_is_found_by_its_name(engine: Engine, backend: AppleBackend) -> None:
    name = f"{SEED_PREFIX}-ab12cd34"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    engine.add(name, "-p", f"0.0.0.0:{number}:8080")
    seen = backend.look(name)
    assert seen is not None
    assert (seen.owner, seen.phase, seen.info.sandbox_id) == (None, Phase.STARTING, name)
    assert seen.info.sandbox_url == f"http://127.0.0.1:{number}"
    assert backend.observe() == []
    with pytest.raises(Conflict, match="left alone"):
        backend.destroy(SandboxInfo(name, ""))
    assert engine.container(name) is not None
    backend.destroy(seen.info)
    assert engine.container(name) is None


def test_one_made_under_another_prefix_is_still_ours(engine: Engine, tmp_path: Path) -> None:
    info = backend_on(engine, tmp_path, prefix="other").create(None, "a1")
    backend = backend_on(engine, tmp_path)
    assert backend.discover("a1") == info
    backend.destroy(info)
    assert engine.container("other-a1") is None


# -- failures


def test_not_found_is_about_this_container_or_a_failure(engine: Engine, backend: AppleBackend) -> None:
    engine.set(fail={"inspect": 'notFound: "network default not found"'})
    with pytest.raises(Permanent, match="network default") as caught:
        backend.look("a1")
    assert not isinstance(caught.value, NotFound)


def test_a_failed_stop_is_a_failure_and_nothing_is_deleted(engine: Engine, backend: AppleBackend) -> None:
    info = backend.create(None, "a1")
    engine.set(fail={"stop": 'internalError: "failed to stop container"'})
    with pytest.raises(Permanent, match="container stop reconciler-a1` failed"):
        backend.destroy(info)
    assert "delete" not in verbs(engine)
    assert backend.is_alive(info)


def test_what_is_still_there_after_its_removal_is_a_failure(engine: Engine, backend: AppleBackend) -> None:
    info = backend.create(None, "a1")
    engine.set(keeps_deleted=True)
    with pytest.raises(Transient, match="still there"):
        backend.destroy(info)


@pytest.mark.parametrize("text", ["{}", "ID  IMAGE", '[{"configuration": {"id": "x"}, "status": "paused"}]'])
def test_an_answer_of_another_form_is_never_an_empty_listing(
    engine: Engine, backend: AppleBackend, text: str
) -> None:
    engine.set(answer={"ls": text})
    with pytest.raises(Permanent, match="form that is not known"):
        backend.list_running()


def test_a_call_that_hangs_is_ended(engine: Engine, tmp_path: Path) -> None:
    engine.set(slow={"ls": 60})
    with pytest.raises(Unavailable, match=r"`container ls` did not end within 0\.3 s"):
        backend_on(engine, tmp_path, timeout=0.3).observe()


def test_a_system_that_was_not_started_says_how(engine: Engine, backend: AppleBackend) -> None:
    engine.set(system="stopped")
    with pytest.raises(Unavailable) as caught:
        backend.create(None, "a1")
    assert "container system start" in caught.value.hint


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: None, id="absent"),
        pytest.param(lambda path: path.write_text("#!/bin/sh\n"), id="not executable"),
        pytest.param(lambda path: path.mkdir(), id="a directory"),
    ],
)
def test_a_missing_command_says_what_to_install(tmp_path: Path, make: object) -> None:
    path = tmp_path / "container"
    make(path)  # type: ignore[operator]
    backend = AppleBackend(str(path), root=str(tmp_path / "kept"))
    for ask in (
        backend.observe,
        lambda: backend.create(None, "a1"),
        lambda: backend.destroy(SandboxInfo("a1", "")),
    ):
        with pytest.raises(Unavailable) as caught:
            ask()
        assert "apple/container" in caught.value.hint
    [(name, well, detail)] = backend.check()
    assert (name, well) == ("container command", False)
    assert "install" in detail


def test_an_option_that_an_older_one_lacks_says_to_update(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "engine", OLD)
    spec = SandboxSpec(resources=Resources(shm=2 * 1024**3))
    with pytest.raises(Unsupported, match="--shm-size") as caught:
        backend_on(engine, tmp_path).create(None, "a1", spec=spec)
    assert "update it" in caught.value.hint


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(SandboxSpec(security=Security(no_new_privileges=True)), id="no new privileges"),
        pytest.param(SandboxSpec(security=Security(seccomp="default")), id="a seccomp profile"),
        pytest.param(SandboxSpec(restart="always"), id="a restart policy"),
        pytest.param(
            SandboxSpec(network=Network(mode=NetworkMode.ALLOWLIST, allow=("a",))), id="an allow list"
        ),
    ],
)
def test_what_it_cannot_hold_is_refused_unless_the_sandbox_goes_without(
    engine: Engine, backend: AppleBackend, spec: SandboxSpec
) -> None:
    from msgspec.structs import replace

    with pytest.raises(Unsupported, match="cannot hold"):
        backend.create(None, "a1", spec=spec)
    assert engine.calls() == []
    assert backend.create(None, "a1", spec=replace(spec, unsupported_warn=True)).sandbox_id == "a1"


def test_every_refusal_has_its_reason() -> None:
    from reconciler.model.capabilities import Support

    fields = AppleBackend.capabilities.fields
    unheld = {path for path, support in fields.items() if support is not Support.ENFORCED}
    assert unheld == set(AppleBackend.capabilities.why)


def test_one_that_died_before_its_start_was_over_is_made_anew(engine: Engine, backend: AppleBackend) -> None:
    first = backend.create(None, "a1")
    engine.kill("reconciler-a1")
    second = backend.create(None, "a1")
    assert second.container_id != first.container_id
    assert backend.is_alive(second)


def test_one_that_is_stopping_is_neither_alive_for_sure_nor_dead(
    engine: Engine, backend: AppleBackend
) -> None:
    info = backend.create(None, "a1")
    engine.change("reconciler-a1", state="stopping")
    seen = backend.look("a1")
    assert seen is not None
    assert seen.phase is Phase.UNKNOWN
    assert backend.is_alive(info)  # False would be a definite "not running"


# -- logs, commands, checks


def test_logs_are_followed_until_it_ends(engine: Engine, backend: AppleBackend) -> None:
    info = backend.create(None, "a1")
    timer = Timer(0.3, engine.kill, ("reconciler-a1",))
    timer.start()
    assert list(backend.logs(info, follow=True)) == ["the sandbox is up", "listening"]
    timer.join()


def test_the_last_lines_alone(backend: AppleBackend) -> None:
    info = backend.create(None, "a1")
    assert list(backend.logs(info, tail=1)) == ["listening"]


def test_logs_of_what_is_absent_are_not_found(backend: AppleBackend) -> None:
    with pytest.raises(NotFound):
        backend.logs(SandboxInfo("a1", ""))


def test_a_command_runs_without_a_shell_in_the_image(engine: Engine, backend: AppleBackend) -> None:
    info = backend.create(None, "a1")
    engine.set(lacks=["/bin/sh"])
    assert backend.exec(info, ["echo", "hello"]).stdout == "hello\n"
    assert backend.exec(info, ["no-such-command"]).exit_code == 127


def test_what_a_command_says_of_itself_is_its_own(backend: AppleBackend) -> None:
    info = backend.create(None, "a1")
    done = backend.exec(info, ["sh", "-c", "echo Error: mine >&2; exit 3"])
    assert (done.exit_code, done.stderr) == (3, "Error: mine\n")


def test_a_command_that_takes_too_long_is_ended(backend: AppleBackend, tmp_path: Path) -> None:
    info = backend.create(None, "a1")
    told = tmp_path / "pid"
    with pytest.raises(Transient, match=r"within 0\.5 s"):
        backend.exec(info, ["sh", "-c", f"echo $$ >{told}; exec sleep 60"], timeout=0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


@pytest.mark.parametrize(("command", "ready"), [("true", True), ("false", False)])
def test_readiness_can_be_a_command(backend: AppleBackend, command: str, ready: bool) -> None:
    info = backend.create(None, "a1")
    readiness = Readiness(kind=ProbeKind.EXEC, command=(command,))
    answer = backend.probe(info, readiness, 5.0)
    assert answer is not None
    assert (answer.ready, answer.dead) == (ready, False)


def test_a_probe_of_a_dead_one_ends_the_wait(engine: Engine, backend: AppleBackend) -> None:
    info = backend.create(None, "a1")
    engine.kill("reconciler-a1")
    answer = backend.probe(info, Readiness(kind=ProbeKind.EXEC, command=("true",)), 5.0)
    assert answer is not None
    assert answer.dead
    assert "not running" in answer.detail


def test_doctor_sees_command_version_and_system(engine: Engine, backend: AppleBackend) -> None:
    assert [(name, well) for name, well, _ in backend.check()] == [
        ("container command", True),
        ("container version", True),
        ("container system", True),
    ]
    engine.set(system="stopped")
    _, _, (_, well, detail) = backend.check()
    assert not well
    assert "container system start" in detail


def test_it_tells_that_a_start_may_take_long(backend: AppleBackend) -> None:
    told: list[tuple[str, str]] = []
    backend.tell_progress(lambda sandbox_id, doing: told.append((sandbox_id, doing)))
    backend.create(None, "a1")
    assert [sandbox_id for sandbox_id, _ in told] == ["a1"]


def test_the_registry_opens_it_with_the_options_of_the_yaml(engine: Engine) -> None:
    config = BackendConfig(
        name="mac", type="apple", options={"binary": engine.binary, "bind": "127.0.0.1", "timeout": 30.0}
    )
    opened = open_backend(config)
    assert isinstance(opened, AppleBackend)
    assert opened.observe() == []


def test_its_place_is_the_same_for_every_object(backend: AppleBackend) -> None:
    assert backend.place() == AppleBackend("elsewhere").place() != ""
