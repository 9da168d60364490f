"""The server as its users meet it: a process, a socket, a key."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.backends.processes import eventually, processes_with

SCRIPT = Path(__file__).parents[2] / "reconciler" / "sandboxd" / "__main__.py"
KEY = "k3y-for-tests"


@dataclass
class Running:
    port: int
    home: Path
    process: subprocess.Popen[bytes]

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            data = json.dumps(body).encode() if isinstance(body, dict) else body
            connection.request(method, path, data, {"X-AIO-API-Key": KEY} if headers is None else headers)
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def post(self, path: str, /, **body: Any) -> Any:
        status, _, data = self.request("POST", path, body)
        answer = json.loads(data)
        assert (status, answer["success"]) == (200, True), answer
        return answer["data"]

    def refused(self, path: str, /, **body: Any) -> tuple[int, str]:
        status, _, data = self.request("POST", path, body)
        answer = json.loads(data)
        assert (answer["success"], answer["data"]) == (False, None)
        return status, answer["message"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "key").write_text(f"{KEY}\n")
    home = tmp_path / "home"
    home.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fd = listening.fileno()
        words = ["--home", str(home), "--listen-fd", str(fd), "--key-file", str(tmp_path / "key")]
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SCRIPT), *words],
            pass_fds=(fd,),
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "GREETING": "hello"},
        )
        port = listening.getsockname()[1]
    yield Running(port, home, process)
    process.terminate()
    assert process.wait(10) == 0


# -- the key


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        pytest.param({"X-AIO-API-Key": KEY}, "", 200, id="in its own header"),
        pytest.param({"Authorization": f"Bearer {KEY}"}, "", 200, id="as bearer"),
        pytest.param({"authorization": f"bearer  {KEY}"}, "", 200, id="as bearer in lower case"),
        pytest.param({}, f"?api_key={KEY}", 200, id="in the query"),
        pytest.param({}, "", 401, id="missing"),
        pytest.param({"X-AIO-API-Key": KEY[:-1]}, "", 401, id="cut short"),
        pytest.param({"X-AIO-API-Key": ""}, "", 401, id="empty"),
        pytest.param({"Authorization": f"Basic {KEY}"}, "", 401, id="in another scheme"),
        pytest.param(
            {"X-AIO-API-Key": "wrong"}, f"?api_key={KEY}", 401, id="wrong in the header, right in the query"
        ),
    ],
)
def test_the_key_is_needed(server: Running, headers: dict[str, str], query: str, status: int) -> None:
    code, told, data = server.request("GET", f"/v1/sandbox{query}", None, headers)
    assert code == status
    assert json.loads(data)["success"] is (status == 200)
    assert ("www-authenticate" in told) is (status == 401)


@pytest.mark.parametrize(
    "path", ["/v1/shell/exec", "/v1/file/read", "/v1/file/download?path=/etc/passwd", "/nothing"]
)
def test_without_the_key_nothing_is_told(server: Running, path: str) -> None:
    assert server.request("POST", path, {"command": "touch x", "file": "x"}, {})[0] == 401
    assert list(server.home.iterdir()) == []


def test_the_sandbox_describes_itself(server: Running) -> None:
    about = json.loads(server.request("GET", "/v1/sandbox")[2])
    assert about["home_dir"] == about["detail"]["system"]["home_dir"] == str(server.home)
    assert about["detail"]["system"]["occupied_ports"] == [str(server.port)]
    assert about["version"]


# -- requests


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", None, 404),
        ("GET", "/v1/shell/exec", None, 405),
        ("POST", "/v1/sandbox", b"{}", 405),
        ("POST", "/v1/shell/exec", b"{no json", 400),
        ("POST", "/v1/shell/exec", b"[1]", 400),
        ("POST", "/v1/shell/exec", b"[" * 100_000, 400),
        ("POST", "/v1/shell/exec", b"{}", 400),
        ("POST", "/v1/shell/exec", b'{"command": 3}', 400),
        ("POST", "/v1/shell/exec", b'{"command": "true", "timeout": "soon"}', 400),
        ("POST", "/v1/shell/exec", b'{"command": "true", "exec_dir": "/nothing", "strict": true}', 400),
        ("POST", "/v1/bash/exec", b'{"command": "true", "env": {"A": 1}}', 400),
        ("POST", "/v1/shell/view", b'{"id": "nobody"}', 404),
        ("POST", "/v1/file/read", b'{"file": "nothing"}', 404),
        ("POST", "/v1/file/read", b'{"file": "/proc"}', 400),
        ("POST", "/v1/file/read", b'{"file": "a\\u0000b"}', 400),
        ("POST", "/v1/file/write", b'{"file": "x", "content": "!", "encoding": "base64"}', 400),
        ("POST", "/v1/file/write", b'{"file": "x", "content": "!", "encoding": "utf-7"}', 400),
        ("POST", "/v1/file/search", b'{"file": "x", "regex": "("}', 400),
        ("GET", "/v1/file/download?path=nothing", None, 404),
        ("GET", "/v1/file/download?path=/", None, 400),
    ],
)
def test_a_wrong_request_is_answered_with_the_reason(
    server: Running, method: str, path: str, body: bytes | None, status: int
) -> None:
    code, headers, data = server.request(method, path, body)
    answer = json.loads(data)
    assert code == status, answer
    assert (answer["success"], answer["data"]) == (False, None)
    assert answer["message"]
    assert headers["content-type"] == "application/json"


def test_a_body_that_is_too_large_is_refused_and_the_server_lives(server: Running) -> None:
    headers = {"X-AIO-API-Key": KEY, "Content-Length": str(33 * 1024 * 1024)}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest("POST", "/v1/file/write")
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(b"x" * 1000)
    assert connection.getresponse().status == 413
    connection.close()
    assert server.request("GET", "/v1/sandbox")[0] == 200


def test_one_connection_carries_many_requests(server: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    sockets = set()
    for _ in range(5):
        connection.request("GET", "/v1/sandbox", headers={"X-AIO-API-Key": KEY})
        connection.getresponse().read()
        sockets.add(id(connection.sock))
    connection.close()
    assert len(sockets) == 1


def test_a_slow_command_does_not_hold_up_others(server: Running) -> None:
    slow = server.post("/v1/bash/exec", command="sleep 60", async_mode=True)
    start = time.monotonic()
    assert server.post("/v1/shell/exec", command="echo quick")["output"] == "quick\n"
    assert time.monotonic() - start < 5
    server.post("/v1/bash/kill", session_id=slow["session_id"], signal="SIGKILL")


def test_a_client_that_leaves_early_hurts_nobody(server: Running) -> None:
    for data in (b"", b"GET", b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc"):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(data)
    assert server.request("GET", "/v1/sandbox")[0] == 200


# -- commands


def test_shell_keeps_the_directory_of_its_session(server: Running) -> None:
    first = server.post("/v1/shell/exec", id="mine", command="mkdir -p sub && cd sub && echo $GREETING")
    assert (first["session_id"], first["status"], first["exit_code"]) == ("mine", "completed", 0)
    assert first["output"] == "hello\n"
    assert server.post("/v1/shell/exec", id="mine", command="pwd")["output"] == f"{server.home}/sub\n"
    assert server.post("/v1/shell/exec", command="pwd", exec_dir="/")["output"] == "/\n"
    listed = server.request("GET", "/v1/shell/sessions")[2]
    assert json.loads(listed)["data"]["sessions"]["mine"]["working_dir"] == f"{server.home}/sub"


def test_shell_reports_what_still_runs_and_what_was_ended(server: Running) -> None:
    running = server.post("/v1/shell/exec", id="s", command="echo on; sleep 60", timeout=0.2)
    assert (running["status"], running["exit_code"], running["output"]) == ("running", None, "on\n")
    assert server.refused("/v1/shell/exec", id="s", command="true")[0] == 409
    assert server.post("/v1/shell/wait", id="s", seconds=0)["status"] == "running"
    assert server.post("/v1/shell/view", id="s")["output"] == "on\n"
    killed = server.post("/v1/shell/kill", id="s")
    assert (killed["status"], killed["exit_code"]) == ("terminated", 137)
    ended = server.post("/v1/shell/exec", command="sleep 60", hard_timeout=0.1)
    assert (ended["status"], ended["exit_code"]) == ("hard_timeout", 137)
    quiet = server.post("/v1/shell/exec", id="q", command="echo a; sleep 60", no_change_timeout=0)
    assert quiet["status"] == "no_change_timeout"
    server.post("/v1/shell/kill", id="q")


def test_shell_takes_input_for_what_runs_in_the_background(server: Running) -> None:
    server.post("/v1/shell/exec", id="s", command="read x; echo got $x", async_mode=True)
    server.post("/v1/shell/write", id="s", input="it", press_enter=True)
    assert server.post("/v1/shell/wait", id="s", seconds=10)["status"] == "completed"
    assert server.post("/v1/shell/view", id="s")["output"] == "got it\n"
    assert server.refused("/v1/shell/write", id="s", input="late")[0] == 409


def test_long_output_is_cut_in_the_middle_unless_told_not_to(server: Running) -> None:
    command = "head -c 40000 /dev/zero | tr '\\0' x; echo end"
    cut = server.post("/v1/shell/exec", command=command)["output"]
    assert len(cut) < 31_000
    assert "characters left out" in cut
    assert cut.endswith("end\n")
    assert len(server.post("/v1/shell/exec", command=command, truncate=False)["output"]) == 40_004
    assert len(server.post("/v1/bash/exec", command=command, max_output_length=0)["stdout"]) == 40_004


def test_bash_separates_outputs_and_reads_on_by_offset(server: Running) -> None:
    done = server.post("/v1/bash/exec", command="echo $A; echo err >&2; exit 5", env={"A": "1"})
    assert (done["stdout"], done["stderr"], done["exit_code"], done["status"]) == (
        "1\n",
        "err\n",
        5,
        "completed",
    )
    started = server.post("/v1/bash/exec", command="echo one; read x; echo $x", async_mode=True)
    session = started["session_id"]
    first = server.post("/v1/bash/output", session_id=session, wait=True, wait_timeout=10)
    assert (first["stdout"], first["command"]["status"]) == ("one\n", "running")
    server.post("/v1/bash/write", session_id=session, command_id=started["command_id"], input="two\n")
    more = server.post(
        "/v1/bash/output", session_id=session, offset=first["offset"], wait=True, wait_timeout=10
    )
    assert more["stdout"] == "two\n"
    assert server.post("/v1/bash/exec", command="sleep 60", hard_timeout=0.1)["status"] == "timed_out"


def test_a_background_command_has_its_hard_limit_too(server: Running) -> None:
    server.post("/v1/bash/exec", session_id="b", command="sleep 161803", async_mode=True, hard_timeout=0.1)
    eventually(lambda: processes_with("161803") == [], "the limit to be held")
    assert server.post("/v1/bash/output", session_id="b")["command"]["status"] == "timed_out"


def test_sessions_are_made_and_closed(server: Running) -> None:
    made = server.post("/v1/bash/sessions/create", session_id="b", exec_dir="/")
    assert (made["session_id"], made["working_dir"]) == ("b", "/")
    assert [s["session_id"] for s in json.loads(server.request("GET", "/v1/bash/sessions")[2])["data"]] == [
        "b"
    ]
    server.post("/v1/bash/sessions/b/close")
    assert json.loads(server.request("GET", "/v1/bash/sessions")[2])["data"] == []
    server.post("/v1/shell/sessions/create", id="s")
    assert server.request("DELETE", "/v1/shell/sessions/s")[0] == 200
    assert server.request("DELETE", "/v1/shell/sessions/s")[0] == 404


# -- files


def test_files_are_written_read_and_appended(server: Running) -> None:
    assert server.post("/v1/file/write", file="a/b.txt", content="ö1\n2\n3\n")["bytes_written"] == 8
    assert (
        server.post("/v1/file/write", file="a/b.txt", content="4\n", append=True)["file"]
        == f"{server.home}/a/b.txt"
    )
    assert server.post("/v1/file/read", file="~/a/b.txt")["content"] == "ö1\n2\n3\n4\n"
    assert server.post("/v1/file/read", file="a/b.txt", start_line=1, end_line=3)["content"] == "2\n3\n"
    assert server.post("/v1/file/read", file="a/b.txt", start_line=3)["content"] == "4\n"
    server.post("/v1/file/write", file="c", content="x", leading_newline=True, trailing_newline=True)
    assert (server.home / "c").read_text() == "\nx\n"


def test_bytes_go_through_unchanged(server: Running) -> None:
    data = bytes(range(256)) * 5000
    encoded = base64.b64encode(data).decode()
    assert server.post("/v1/file/write", file="b i n ü", content=encoded, encoding="base64")[
        "bytes_written"
    ] == len(data)
    status, headers, body = server.request("GET", "/v1/file/download?path=b%20i%20n%20%C3%BC")
    assert (status, body) == (200, data)
    assert headers["content-disposition"] == "attachment; filename*=utf-8''b%20i%20n%20%C3%BC"


def test_files_are_found_listed_searched_and_replaced(server: Running) -> None:
    for name in ("one.py", "sub/two.py", "sub/three.txt", ".hidden"):
        server.post("/v1/file/write", file=name, content="alpha\nbeta\n")
    home = str(server.home)
    assert server.post("/v1/file/find", path=home, glob="*.py")["files"] == [
        f"{home}/one.py",
        f"{home}/sub/two.py",
    ]
    flat = server.post("/v1/file/list", path=home)
    assert [(f["name"], f["is_directory"]) for f in flat["files"]] == [("one.py", False), ("sub", True)]
    deep = server.post("/v1/file/list", path=home, recursive=True, show_hidden=True)
    assert (deep["total_count"], deep["file_count"], deep["directory_count"]) == (5, 4, 1)
    found = server.post("/v1/file/search", file="one.py", regex="^b")
    assert (found["matches"], found["line_numbers"]) == (["beta"], [1])
    assert server.post("/v1/file/replace", file="one.py", old_str="a", new_str="A")["replaced_count"] == 3
    assert (server.home / "one.py").read_text() == "AlphA\nbetA\n"


# -- life


def test_sigterm_ends_commands_answers_them_and_exits_well(server: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    body = json.dumps({"command": "echo on; sleep 141421"}).encode()
    connection.request("POST", "/v1/bash/exec", body, {"X-AIO-API-Key": KEY})
    eventually(lambda: processes_with("sleep\000141421"), "the command")
    server.process.send_signal(signal.SIGTERM)
    answer = json.loads(connection.getresponse().read())["data"]
    connection.close()
    assert (answer["status"], answer["stdout"]) == ("killed", "on\n")
    assert server.process.wait(5) == 0
    assert processes_with("141421") == []


def test_it_is_ready_soon(tmp_path: Path) -> None:
    """Processor time from spawn to first answer and out again, the best of five; about 40 ms on an idle machine."""
    times = []
    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            fd = listening.fileno()
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SCRIPT), "--home", str(tmp_path), "--listen-fd", str(fd)],
                pass_fds=(fd,),
                stderr=subprocess.DEVNULL,
            )
            with socket.create_connection(listening.getsockname()) as client:
                client.sendall(b"GET /v1/sandbox HTTP/1.1\r\n\r\n")
                assert client.recv(4096).startswith(b"HTTP/1.1 200 OK")
            process.terminate()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            times.append(used.ru_utime + used.ru_stime)
    assert min(times) < 0.15, times


def test_it_imports_nothing_of_the_rest(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", str(SCRIPT), "--no-such-option"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    imported = {
        line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")
    }
    assert done.returncode == 64
    assert {name for name in imported if name.startswith("reconciler")} <= {
        f"reconciler.sandboxd{name}" for name in ("", ".routes", ".commands", ".files", ".wire", ".server")
    }
    assert not imported & {"typing", "dataclasses", "http.server", "json", "subprocess", "email"}


def test_it_runs_as_a_module_by_hand(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler.sandboxd", "--port", str(port), "--home", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "serving" in process.stderr.readline()
    assert Running(port, tmp_path, process).request("GET", "/v1/sandbox", None, {})[0] == 200  # type: ignore[arg-type]
    process.terminate()
    assert process.wait(10) == 0
    process.stderr.close()
