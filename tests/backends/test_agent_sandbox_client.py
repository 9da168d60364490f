"""The client that agents use, from PyPI, against a real sandbox of the process backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.backends.process import ProcessBackend
from reconciler.model.desired import SandboxSpec
from tests.backends.processes import ISOLATIONS
from tests.support.required import IN_CI

if IN_CI:
    import agent_sandbox  # a promise of CI: not there is a failure
else:
    agent_sandbox = pytest.importorskip("agent_sandbox")


@pytest.fixture(params=ISOLATIONS)
def client(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    import httpx

    backend = ProcessBackend(str(tmp_path / "state"), request.param)
    info = backend.create(None, "aio", spec=SandboxSpec(environment={"GREETING": "hello"}))
    with httpx.Client(timeout=20, trust_env=False) as transport:
        yield agent_sandbox.Sandbox(
            base_url=info.sandbox_url, headers=dict(backend.request_headers(info)), httpx_client=transport
        )
    backend.destroy(info)


def test_the_context_tells_home_and_system(client: Any) -> None:
    context = client.sandbox.get_context()
    assert context.home_dir == context.detail.system.home_dir
    assert context.detail.runtime.python[0].ver


def test_shell_exec_command(client: Any) -> None:
    done = client.shell.exec_command(command="echo $GREETING; pwd").data
    home = client.sandbox.get_context().home_dir
    assert (done.status, done.exit_code, done.output) == ("completed", 0, f"hello\n{home}\n")
    client.shell.exec_command(id="s", command="cd /tmp", exec_dir="/")
    assert client.shell.exec_command(id="s", command="pwd").data.output == "/tmp\n"


def test_shell_sessions(client: Any) -> None:
    client.shell.create_session(id="s", exec_dir="/")
    client.shell.exec_command(id="s", command="read x; echo $x", async_mode=True)
    client.shell.write_to_process(id="s", input="typed", press_enter=True)
    assert client.shell.wait_for_process(id="s", seconds=10).data.status == "completed"
    view = client.shell.view(id="s").data
    assert (view.output, view.exit_code) == ("typed\n", 0)
    assert "s" in client.shell.list_sessions().data.sessions
    client.shell.exec_command(id="s", command="sleep 60", async_mode=True)
    assert client.shell.kill_process(id="s").data.status == "terminated"
    client.shell.cleanup_session("s")


def test_bash_exec(client: Any) -> None:
    done = client.bash.exec(command="echo $A; echo err >&2; exit 3", env={"A": "1"}, hard_timeout=10).data
    assert (done.status, done.stdout, done.stderr, done.exit_code) == ("completed", "1\n", "err\n", 3)
    assert client.bash.exec(command="sleep 60", hard_timeout=0.1).data.status == "timed_out"
    assert [session.status for session in client.bash.sessions().data] == ["ready", "ready"]


def test_files(client: Any) -> None:
    assert client.file.write_file(file="notes.txt", content="one\ntwo\n").data.bytes_written == 8
    client.file.write_file(file="notes.txt", content="three\n", append=True)
    assert client.file.read_file(file="notes.txt").data.content == "one\ntwo\nthree\n"
    assert client.file.read_file(file="notes.txt", start_line=1, end_line=2).data.content == "two\n"
    client.file.write_file(file="bytes", content="AAECAw==", encoding="base64")
    assert b"".join(client.file.download_file(path="bytes")) == bytes(range(4))
    assert client.file.replace_in_file(file="notes.txt", old_str="two", new_str="2").data.replaced_count == 1
    assert client.file.search_in_file(file="notes.txt", regex="^2").data.line_numbers == [1]
    home = client.sandbox.get_context().home_dir
    assert client.file.find_files(path=home, glob="*.txt").data.files == [f"{home}/notes.txt"]
    assert [file.name for file in client.file.list_path(path=home).data.files] == ["bytes", "notes.txt"]


def test_errors_are_the_clients_errors(client: Any) -> None:
    from agent_sandbox.core.api_error import ApiError

    with pytest.raises(ApiError) as raised:
        client.file.read_file(file="nothing")
    assert raised.value.status_code == 404
    with pytest.raises(ApiError) as raised:
        list(client.file.download_file(path="nothing"))
    assert raised.value.status_code == 404
