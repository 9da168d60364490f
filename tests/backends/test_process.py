"""The embedded backend against real processes: what is started, what is left, what is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.backends.process import ProcessBackend
from reconciler.backends.process.isolation import python
from reconciler.errors import Conflict, NotFound, Permanent, Transient, Unsupported
from reconciler.model.desired import (
    Mount,
    Network,
    NetworkMode,
    Port,
    ProbeKind,
    Readiness,
    Resources,
    SandboxSpec,
    Secret,
    SecretRef,
)
from reconciler.model.observed import Phase, SandboxInfo
from reconciler.testing.backend_conformance import an_owner
from tests.backends.processes import ISOLATIONS, eventually, pids, processes_with, runs, server_pid
from tests.support.counting import calls


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture(params=ISOLATIONS)
def backend(root: Path, request: pytest.FixtureRequest) -> Iterator[ProcessBackend]:
    backend = ProcessBackend(str(root), request.param)
    yield backend
    destroy_all(backend)


@pytest.fixture
def plain(root: Path) -> Iterator[ProcessBackend]:
    backend = ProcessBackend(str(root), "none")
    yield backend
    destroy_all(backend)


def destroy_all(backend: ProcessBackend) -> None:
    for seen in backend.observe():
        if seen.phase is not Phase.UNKNOWN:
            backend.destroy(seen.info)


def sh(backend: ProcessBackend, info: SandboxInfo, script: str) -> str:
    return backend.exec(info, ["sh", "-c", script]).stdout


def secret(value: str, delivery: str = "file") -> SecretRef:
    return SecretRef(
        source="env X", kind="env", target=("X",), digest="d" * 32, delivery=delivery, value=Secret(value)
    )


def status_of(info: SandboxInfo, headers: dict[str, str]) -> int:
    request = urllib.request.Request(f"{info.sandbox_url}/v1/sandbox", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code)


# -- start


def test_the_api_answers_with_the_key_and_only_with_it(backend: ProcessBackend) -> None:
    info = backend.create(None, "api")
    assert status_of(info, dict(backend.request_headers(info))) == 200
    assert status_of(info, {}) == 401
    assert status_of(info, {"X-AIO-API-Key": "guess"}) == 401


MAKE_ONE = """
import sys
from reconciler.backends.process import ProcessBackend
print(ProcessBackend(sys.argv[1], "none").create(None, "made-there").sandbox_url)
"""


def test_the_sandbox_outlives_the_process_that_made_it(root: Path, plain: ProcessBackend) -> None:
    made = subprocess.run(
        [
            sys.executable,
            "-c",
            MAKE_ONE,
            str(root),
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=30,
    )
    info = plain.discover("made-there")
    assert info is not None
    assert info.sandbox_url == made.stdout.strip()
    assert status_of(info, dict(plain.request_headers(info))) == 200


def test_creating_leaves_no_zombie_with_the_creator(plain: ProcessBackend) -> None:
    plain.create(None, "zombie")
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in children]
    assert "Z" not in states


def test_files_are_for_the_owner_alone(root: Path, backend: ProcessBackend) -> None:
    backend.create(None, "modes")
    for path in (root, root / "modes", root / "modes" / "workspace"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for name in ("record.json", "key", "log"):
        assert stat.S_IMODE((root / "modes" / name).stat().st_mode) == 0o600


def test_the_environment_is_what_was_declared_and_nothing_of_ours(
    backend: ProcessBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUD_PASSWORD", "of-the-operator")
    info = backend.create(None, "env", spec=SandboxSpec(environment={"LOG_LEVEL": "info", "TITLE": "ö x"}))
    seen = sh(backend, info, "env")
    assert "LOG_LEVEL=info\n" in seen
    assert "TITLE=ö x\n" in seen
    assert "CLOUD_PASSWORD" not in seen
    assert "MALLOC_ARENA_MAX" not in seen
    assert sh(backend, info, 'test "$PWD" = "$HOME" && echo home') == "home\n"


def test_a_fixed_port_is_taken_and_told(backend: ProcessBackend) -> None:
    first = backend.create(None, "chosen")
    port = first.ports["http"]
    backend.destroy(first)
    spec = SandboxSpec(ports=(Port(name="http", container=8080, host=port),))
    info = backend.create(None, "fixed", spec=spec)
    assert info.ports == {"http": port}
    assert info.sandbox_url == f"http://127.0.0.1:{port}"
    seen = backend.look("fixed")
    assert seen is not None
    assert seen.attributes == {"ports.http.bind": "127.0.0.1", "ports.http.host": port}
    with pytest.raises(Transient, match=f"port {port} on 127.0.0.1 is in use"):
        backend.create(None, "second", spec=spec)
    assert backend.look("second") is None


def test_the_memory_limit_holds_for_what_runs_inside(backend: ProcessBackend) -> None:
    spec = SandboxSpec(resources=Resources(memory=256 * 1024 * 1024))
    info = backend.create(None, "memory", spec=spec)
    assert sh(backend, info, "ulimit -v") == f"{256 * 1024}\n"
    eat = f"{python()} -I -S -c 'bytearray(300 * 1024 * 1024)'"
    assert "MemoryError" in backend.exec(info, ["sh", "-c", f"{eat} 2>&1"]).stdout


# -- secrets


@pytest.mark.parametrize("delivery", ["file", "environment"])
def test_a_secret_reaches_the_command_and_no_disk_log_or_argument(
    backend: ProcessBackend, root: Path, delivery: str
) -> None:
    canary = f"canary-{os.urandom(8).hex()}"
    info = backend.create(None, "secret", spec=SandboxSpec(secrets={"TOKEN": secret(canary, delivery)}))
    read = 'cat "$TOKEN_FILE"' if delivery == "file" else 'printf %s "$TOKEN"'
    assert sh(backend, info, read) == canary
    if delivery == "file":
        assert sh(backend, info, 'stat -c %a "$TOKEN_FILE"') == "400\n"
        assert canary not in sh(backend, info, "env")
    files = [path for path in root.rglob("*") if path.is_file()]
    assert not [path for path in files if canary.encode() in path.read_bytes()]
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if canary.encode() in arguments(pid)]


def arguments(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_secret_goes_with_its_sandbox(plain: ProcessBackend) -> None:
    info = plain.create(None, "secret", spec=SandboxSpec(secrets={"TOKEN": secret("s3cret")}))
    path = Path(sh(plain, info, 'printf %s "$TOKEN_FILE"'))
    assert path.read_text() == "s3cret"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    plain.destroy(info)
    assert not path.parent.exists()


def test_a_secret_without_a_value_is_refused_before_anything_starts(plain: ProcessBackend) -> None:
    unresolved = SecretRef(source="env X", kind="env", target=("X",))
    with pytest.raises(Permanent, match="TOKEN has no value"):
        plain.create(None, "unresolved", spec=SandboxSpec(secrets={"TOKEN": unresolved}))
    assert plain.look("unresolved") is None


# -- the end


def test_destroy_leaves_no_process_and_no_file(backend: ProcessBackend, root: Path) -> None:
    info = backend.create(None, "gone")
    sh(
        backend,
        info,
        "mkdir -p a/b; touch a/b/c; ln -s /etc link; chmod 500 a/b a; nohup sleep 300 >/dev/null 2>&1 &",
    )
    running = pids(root, "gone")
    backend.destroy(info)
    assert not [name for name, pid in running.items() if runs(pid)]
    assert processes_with(str(info.container_id), str(root)) == []
    assert sorted(path.name for path in root.iterdir()) == [".locks", ".trash"]
    assert [*(root / ".locks").iterdir(), *(root / ".trash").iterdir()] == []


DAEMON = (
    "import os, time\n"
    "os.fork() and os._exit(0)\n"
    "os.setsid()\n"
    "os.fork() and os._exit(0)\n"
    "open('daemon', 'w').write(str(os.getpid()))\n"
    "time.sleep(300)\n"
)


@pytest.mark.parametrize("how", ["destroyed", "killed, then destroyed", "left by its keeper, then destroyed"])
def test_a_daemon_of_the_sandbox_dies_with_it(backend: ProcessBackend, root: Path, how: str) -> None:
    info = backend.create(None, "daemon")
    server = server_pid(root, "daemon")
    (root / "daemon" / "workspace" / "d.py").write_text(DAEMON)
    sh(backend, info, f"{python()} -I -S d.py >/dev/null 2>&1 </dev/null")
    marker = f"RECONCILER_INSTANCE={info.container_id}"
    eventually((root / "daemon" / "workspace" / "daemon").exists, "the daemon")
    assert processes_with(marker)
    if how.startswith("killed"):
        os.kill(server, signal.SIGKILL)
    if how.startswith("left"):
        os.kill(pids(root, "daemon")["keeper"], signal.SIGKILL)
        eventually(lambda: not runs(server), "the server to follow its keeper")
    backend.destroy(info)
    assert processes_with(marker, str(root)) == []


@pytest.mark.parametrize("name", ["server", "main", "keeper"])
def test_killed_shows_as_failed_and_frees_its_port(backend: ProcessBackend, root: Path, name: str) -> None:
    info = backend.create(None, "killed")
    server_pid(root, "killed")
    os.kill(pids(root, "killed")[name], signal.SIGKILL)

    def failed() -> str:
        seen = backend.look("killed")
        assert seen is not None
        return seen.detail if seen.phase is Phase.FAILED else ""

    eventually(failed, "phase failed")
    if name != "keeper":  # who else could tell
        eventually(lambda: failed() == "exit code 137 (SIGKILL)", "the exit code")
    assert not backend.is_alive(info)
    eventually(lambda: refused(info), "the port to be free")
    with pytest.raises(NotFound):
        backend.exec(info, ["true"])
    assert backend.probe(info, Readiness(kind=ProbeKind.EXEC, command=("true",)), 1.0).dead  # type: ignore[union-attr]


def refused(info: SandboxInfo) -> bool:
    try:
        status_of(info, {})
    except urllib.error.URLError as error:
        return isinstance(error.reason, ConnectionRefusedError)
    except OSError:
        return False
    return False


def test_stopped_shows_as_paused_and_is_destroyed_at_once(backend: ProcessBackend, root: Path) -> None:
    info = backend.create(None, "paused")
    os.kill(server_pid(root, "paused"), signal.SIGSTOP)
    seen = eventually(lambda: (s := backend.look("paused")) and s.phase is Phase.PAUSED and s, "phase paused")
    assert seen.detail == "stopped by a signal"
    assert not backend.is_alive(info)
    start = time.monotonic()
    backend.destroy(info)
    assert time.monotonic() - start < 2.0
    assert backend.look("paused") is None


def test_creating_over_a_paused_one_resumes_it(backend: ProcessBackend, root: Path) -> None:
    info = backend.create(None, "paused")
    os.kill(server_pid(root, "paused"), signal.SIGSTOP)
    eventually(lambda: not backend.is_alive(info), "phase paused")
    assert backend.create(None, "paused") == info
    eventually(lambda: backend.is_alive(info), "it to run")
    assert backend.exec(info, ["true"]).exit_code == 0


def test_a_sandbox_that_ignores_being_asked_is_made_to_end(root: Path) -> None:
    backend = ProcessBackend(str(root), "none", grace=0.2)
    info = backend.create(None, "stubborn")
    assert (
        sh(backend, info, "trap '' TERM; (trap '' TERM; sleep 300) >/dev/null 2>&1 & echo left") == "left\n"
    )
    backend.destroy(info)
    assert processes_with(f"RECONCILER_INSTANCE={info.container_id}") == []


# -- never somebody else's


@pytest.mark.parametrize("changed", ["start", "boot"])
def test_a_process_that_took_over_the_id_is_neither_alive_nor_killed(
    plain: ProcessBackend, root: Path, changed: str
) -> None:
    info = plain.create(None, "reused")
    server_pid(root, "reused")
    for pid in (pids(root, "reused")["main"], pids(root, "reused")["keeper"]):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not plain.is_alive(info), "its end")
    with subprocess.Popen(["sleep", "60"]) as bystander:
        start = Path(f"/proc/{bystander.pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        known = [bystander.pid, start if changed == "boot" else str(int(start) - 1)]
        told = {
            "boot": boot if changed == "start" else "earlier",
            "keeper": known,
            "main": known,
            "server": known,
        }
        (root / "reused" / "process.json").write_text(json.dumps(told))
        seen = plain.look("reused")
        assert seen is not None
        assert seen.phase is Phase.FAILED
        assert plain.create(None, "reused").container_id != info.container_id
        plain.destroy(info)
        assert bystander.poll() is None
        bystander.kill()


def test_a_directory_of_somebody_else_is_never_touched(plain: ProcessBackend, root: Path) -> None:
    mine = plain.create(None, "mine")
    (root / "notes").mkdir()
    (root / "notes" / "precious").write_text("text")
    (root / "letter").write_text("text")
    for sandbox_id in ("notes", "letter"):
        with pytest.raises(Conflict):
            plain.create(None, sandbox_id)
        with pytest.raises(Conflict):
            plain.destroy(SandboxInfo(sandbox_id, ""))
    phases = {seen.info.sandbox_id: (seen.phase, seen.owner) for seen in plain.observe()}
    assert phases == {
        "letter": (Phase.UNKNOWN, None),
        "mine": (Phase.STARTING, None),
        "notes": (Phase.UNKNOWN, None),
    }
    assert plain.list_running() == [mine]
    assert (root / "notes" / "precious").read_text() == (root / "letter").read_text() == "text"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.write_text('{"format": "1", "sandb'), id="cut off"),
        pytest.param(lambda path: path.write_text("[]"), id="not a record"),
        pytest.param(lambda path: path.write_bytes(b"\xff\xfe"), id="not text"),
        pytest.param(lambda path: path.write_text(path.read_text().replace('"1"', '"9"', 1)), id="too new"),
        pytest.param(lambda path: path.unlink(), id="missing"),
        pytest.param(lambda path: path.write_text(path.read_text().replace("hurt", "else")), id="another's"),
    ],
)
def test_a_record_that_cannot_be_read_is_never_absent(plain: ProcessBackend, root: Path, damage: Any) -> None:
    plain.create(None, "whole")
    hurt = plain.create(None, "hurt")
    record = root / "hurt" / "record.json"
    text = record.read_text()
    damage(record)
    for look in (plain.observe, plain.list_running):
        with pytest.raises(Permanent, match=r"hurt/record\.json"):
            look()
    for ask in (plain.look, plain.discover):
        with pytest.raises(Permanent):
            ask("hurt")
    with pytest.raises(Permanent):
        plain.create(None, "hurt")
    with pytest.raises(Permanent):
        plain.destroy(hurt)
    assert plain.discover("whole") is not None
    record.write_text(text)
    assert plain.is_alive(hurt)


def test_damaged_process_notes_show_as_unknown_and_can_be_destroyed(
    backend: ProcessBackend, root: Path
) -> None:
    info = backend.create(None, "hurt", spec=SandboxSpec(owner=an_owner()))
    running = (server_pid(root, "hurt"), *pids(root, "hurt").values())
    (root / "hurt" / "process.json").write_text("{")
    [seen] = backend.observe()
    assert (seen.phase, seen.owner) == (Phase.UNKNOWN, an_owner())
    backend.destroy(info)
    assert not [pid for pid in running if runs(pid)]


# -- what it refuses, says, shows


def test_without_bubblewrap_what_would_not_hold_is_refused(plain: ProcessBackend, tmp_path: Path) -> None:
    isolated = SandboxSpec(network=Network(mode=NetworkMode.ISOLATED))
    with pytest.raises(Unsupported, match=r"network\.mode"):
        plain.create(None, "isolated", spec=isolated)
    with pytest.raises(Unsupported, match=r"mounts\./data"):
        plain.create(None, "mounted", [(str(tmp_path), "/data", True)])
    assert plain.observe() == []
    assert "no security boundary" in plain.notes()[0]


def test_refused_becomes_left_out_when_the_specification_says_warn(plain: ProcessBackend) -> None:
    spec = SandboxSpec(network=Network(mode=NetworkMode.ISOLATED), unsupported_warn=True)
    assert plain.is_alive(plain.create(None, "warned", spec=spec))


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(SandboxSpec(command=("sleep", "1")), id="a command of its own"),
        pytest.param(SandboxSpec(ports=(Port(name="vnc", container=5900),)), id="another port"),
        pytest.param(SandboxSpec(ports=(Port(name="http", container=80),)), id="another container port"),
        pytest.param(
            SandboxSpec(network=Network(mode=NetworkMode.ALLOWLIST, allow=("pypi.org",))), id="an allow list"
        ),
    ],
)
def test_what_no_isolation_holds_is_refused(backend: ProcessBackend, spec: SandboxSpec) -> None:
    with pytest.raises(Unsupported):
        backend.create(None, "refused", spec=spec)


def test_a_mount_source_that_is_not_there_is_refused_first(backend: ProcessBackend, tmp_path: Path) -> None:
    spec = SandboxSpec(mounts=(Mount(source=str(tmp_path / "no"), target="/data"),), unsupported_warn=True)
    with pytest.raises(Permanent, match="is not there"):
        backend.create(None, "mounted", spec=spec)
    assert backend.look("mounted") is None


def test_update_changes_labels_and_leaves_the_process_alone(backend: ProcessBackend, root: Path) -> None:
    before = SandboxSpec(labels={"team": "search"}, environment={"A": "1"}, owner=an_owner())
    info = backend.create("t-1", "labels", spec=before)
    running = pids(root, "labels")["main"]
    after = SandboxSpec(labels={"tier": "gold"}, environment={"A": "2"}, owner=an_owner(generation=2))
    assert backend.update(info, after) == info
    seen = backend.look("labels")
    assert seen is not None
    assert seen.attributes == {"labels.tier": "gold", "thread_id": "t-1"}
    assert seen.owner == an_owner(generation=2)
    assert pids(root, "labels")["main"] == running
    assert json.loads((root / "labels" / "record.json").read_text())["spec"] == {
        "environment.A": "1",
        "labels.tier": "gold",
    }


def test_logs_follow_until_the_end(backend: ProcessBackend) -> None:
    info = backend.create(None, "logs")
    lines = backend.logs(info, follow=True)
    assert "sandboxd: serving" in next(lines)
    backend.exec(info, ["true"])
    assert "POST /v1/bash/exec 200" in next(lines)
    backend.destroy(info)
    rest = list(lines)
    assert rest == [] or "stopped" in rest[-1]


def test_exec_that_takes_too_long_is_ended(backend: ProcessBackend) -> None:
    info = backend.create(None, "slow")
    with pytest.raises(Transient, match=r"did not end within 0\.2 s"):
        backend.exec(info, ["sleep", "271828"], timeout=0.2)
    eventually(lambda: processes_with("271828") == [], "the command to be gone")


def test_probe_runs_a_command_for_readiness(backend: ProcessBackend) -> None:
    info = backend.create(None, "probe")
    ready = backend.probe(info, Readiness(kind=ProbeKind.EXEC, command=("true",)), 5.0)
    unready = backend.probe(
        info, Readiness(kind=ProbeKind.EXEC, command=("sh", "-c", "echo no; exit 3")), 5.0
    )
    assert ready is not None
    assert ready.ready
    assert unready is not None
    assert (unready.ready, unready.dead, unready.detail) == (False, False, "exit code 3 no")
    assert backend.probe(info, Readiness(), 5.0) is None


def test_a_probe_that_the_deadline_cuts_short_does_not_hide_the_answer_before_it(
    backend: ProcessBackend,
) -> None:
    info = backend.create(None, "probe")
    answer = backend.probe(info, Readiness(kind=ProbeKind.EXEC, command=("sleep", "9")), 0.2)
    assert answer is not None
    assert (answer.ready, answer.dead, answer.detail) == (False, False, "")


def test_twice_the_records_cost_twice_as_much_to_list(plain: ProcessBackend, root: Path) -> None:
    plain.create(None, "one")
    server_pid(root, "one")
    record = (root / "one" / "record.json").read_text()
    notes = (root / "one" / "process.json").read_text()

    def cost(records: int) -> int:
        for number in range(records - 1):
            copy = root / f"copy-{number}"
            copy.mkdir(exist_ok=True)
            (copy / "record.json").write_text(record.replace('"one"', f'"copy-{number}"'))
            (copy / "process.json").write_text(notes)
        assert len(plain.observe()) == records  # what is learnt once is not counted
        counted = calls(plain.observe)
        for number in range(records - 1):
            shutil.rmtree(root / f"copy-{number}")
        return counted

    assert cost(1000) < 2.5 * cost(500)


def test_an_unknown_isolation_is_an_error() -> None:
    from reconciler.errors import ConfigError

    with pytest.raises(ConfigError, match="jail"):
        ProcessBackend(isolation="jail")
