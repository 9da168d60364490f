"""Path to function: what each AIO route takes and answers. Bodies and data follow the PyPI client `agent-sandbox`.

Every answer is wrapped as {"success", "message", "data"}; every error too.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from reconciler.sandboxd.commands import Command, Session, SessionBusy, SessionMissing, Sessions
from reconciler.sandboxd.files import Files, number, refusal
from reconciler.sandboxd.wire import Answer, Refusal, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Body = dict[str, Any]

VERSION = "1.0"
SHELL_TRUNCATE = 30_000  # characters, as the AIO shell does unless told not to
_SHELL_STATUS = {"timed_out": "hard_timeout", "killed": "terminated", "quiet": "no_change_timeout"}
_SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGKILL": signal.SIGKILL, "SIGINT": signal.SIGINT}


class Routes:
    """Everything behind the key. `env` is what commands see, `home` where they start."""

    def __init__(self, *, home: str, env: Mapping[str, str], port: int) -> None:
        self._home = home
        self._env = env
        self._port = port
        self._files = Files(home)
        self._shells, self._bashes = Sessions(home), Sessions(home)
        files = self._files
        self._table: dict[tuple[str, str], Callable[[Body], Any]] = {
            ("POST", "/v1/shell/exec"): self._shell_exec,
            ("POST", "/v1/shell/view"): self._shell_view,
            ("POST", "/v1/shell/wait"): self._shell_wait,
            ("POST", "/v1/shell/write"): self._shell_write,
            ("POST", "/v1/shell/kill"): self._shell_kill,
            ("POST", "/v1/shell/sessions/create"): self._shell_create,
            ("GET", "/v1/shell/sessions"): self._shell_list,
            ("DELETE", "/v1/shell/sessions"): self._shell_close_all,
            ("POST", "/v1/bash/exec"): self._bash_exec,
            ("POST", "/v1/bash/output"): self._bash_output,
            ("POST", "/v1/bash/write"): self._bash_write,
            ("POST", "/v1/bash/kill"): self._bash_kill,
            ("GET", "/v1/bash/sessions"): self._bash_list,
            ("POST", "/v1/bash/sessions/create"): self._bash_create,
            ("POST", "/v1/file/read"): files.read,
            ("POST", "/v1/file/write"): files.write,
            ("POST", "/v1/file/replace"): files.replace,
            ("POST", "/v1/file/search"): files.search,
            ("POST", "/v1/file/find"): files.find,
            ("POST", "/v1/file/list"): files.list,
        }
        self._paths = {path for _, path in self._table} | {"/v1/sandbox", "/v1/file/download"}

    def answer(self, request: Request) -> Answer:
        """Raises Refusal; whatever else it raises is a bug and becomes a 500."""
        key = (request.method, request.path)
        if key == ("GET", "/v1/sandbox"):
            return wrapped(None, extra=self._about())
        if key == ("GET", "/v1/file/download"):
            return self._files.download(query_value(request.query, "path") or "")
        function = self._table.get(key) or self._with_id(request)
        if function is None:
            known = request.path in self._paths
            raise Refusal(405 if known else 404, f"{request.method} {request.path} is not served here")
        try:
            return wrapped(function(parse_body(request)))
        except SessionBusy as error:
            raise Refusal(409, f"session {error} runs a command: wait for it, or kill it") from error
        except SessionMissing as error:
            raise Refusal(404, f"there is no session {error}") from error

    def _with_id(self, request: Request) -> Callable[[Body], Any] | None:
        words = request.path.strip("/").split("/")
        if request.method == "DELETE" and len(words) == 4 and words[:3] == ["v1", "shell", "sessions"]:
            return lambda _: self._shells.close(words[3])
        if request.method == "POST" and len(words) == 5 and words[:3] == ["v1", "bash", "sessions"]:
            return (lambda _: self._bashes.close(words[3])) if words[4] == "close" else None
        return None

    def stop(self) -> None:
        self._shells.stop()
        self._bashes.stop()

    # -- shell: one output, the session's directory kept

    def _shell_exec(self, body: Body) -> Body:
        session = self._shells.open(text(body, "id"))
        background = bool(body.get("async_mode"))
        command = self._start(session, body, merge=True, env={}, feed=background)
        status = (
            "running"
            if background
            else command.wait(
                seconds(body, "timeout"),
                hard=seconds(body, "hard_timeout"),
                quiet=seconds(body, "no_change_timeout"),
            )
        )
        return self._shell_state(session, command, status, cut=body.get("truncate") is not False)

    def _shell_state(self, session: Session, command: Command, status: str, *, cut: bool) -> Body:
        output = command.stdout.text()
        if cut and len(output) > SHELL_TRUNCATE:
            output = middle_cut(output, SHELL_TRUNCATE)
        return {
            "session_id": session.id,
            "command": command.text,
            "status": _SHELL_STATUS.get(status, status),
            "output": output,
            "console": [{"ps1": f"{session.cwd} $", "command": command.text, "output": output}],
            "exit_code": command.exit_code,
        }

    def _shell_view(self, body: Body) -> Body:
        session = self._shells.get(required(body, "id"))
        if session.last is None:
            return {"session_id": session.id, "output": "", "console": [], "status": "completed"}
        return self._shell_state(session, session.last, session.last.status, cut=False)

    def _shell_wait(self, body: Body) -> Body:
        limit = seconds(body, "max_wait_seconds")
        limit = seconds(body, "seconds") if limit is None else limit
        command = self._shells.get(required(body, "id")).last
        status = "completed" if command is None else command.wait(30.0 if limit is None else limit)
        return {"status": _SHELL_STATUS.get(status, status)}

    def _shell_write(self, body: Body) -> Body:
        command = self._shells.get(required(body, "id")).last
        _feed(command, str(body.get("input", "")) + ("\n" if body.get("press_enter") else ""))
        return {"status": "running"}

    def _shell_kill(self, body: Body) -> Body:
        command = self._shells.get(required(body, "id")).last
        if command is None:
            return {"status": "completed", "exit_code": None}
        command.kill()
        status = command.wait(5.0)
        return {"status": _SHELL_STATUS.get(status, status), "exit_code": command.exit_code}

    def _shell_create(self, body: Body) -> Body:
        session = self._shells.open(text(body, "id"), self._directory(body, strict=True))
        return {"session_id": session.id, "working_dir": session.cwd}

    def _shell_list(self, _: Body) -> Body:
        return {"sessions": {session.id: _session_info(session) for session in self._shells.all()}}

    def _shell_close_all(self, _: Body) -> None:
        for session in self._shells.all():
            self._shells.close(session.id)

    # -- bash: two outputs, by offset

    def _bash_exec(self, body: Body) -> Body:
        env = body.get("env") or {}
        if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
            raise Refusal(400, "env must map names to strings")
        session = self._bashes.open(text(body, "session_id"))
        background = bool(body.get("async_mode"))
        command = self._start(session, body, merge=False, env=env, feed=background)
        status = "running"
        if background:
            _limit_in_background(command, seconds(body, "hard_timeout"))
        else:
            status = command.wait(seconds(body, "timeout"), hard=seconds(body, "hard_timeout"))
        limit = number(body, "max_output_length")
        limit = SHELL_TRUNCATE if limit is None else limit
        stdout, stderr = command.stdout.text(), command.stderr.text()
        return {
            "session_id": session.id,
            "command_id": command.id,
            "command": command.text,
            "status": status,
            "stdout": middle_cut(stdout, limit) if limit and not background else stdout,
            "stderr": middle_cut(stderr, limit) if limit and not background else stderr,
            "exit_code": command.exit_code,
            "offset": len(command.stdout.data),
            "stderr_offset": len(command.stderr.data),
        }

    def _bash_output(self, body: Body) -> Body:
        session, command = self._bash_command(body)
        start, start_err = number(body, "offset") or 0, number(body, "stderr_offset") or 0
        if body.get("wait"):
            deadline = time.monotonic() + (seconds(body, "wait_timeout") or 30.0)
            with command.changed:
                while (
                    command.running
                    and len(command.stdout.data) <= start
                    and len(command.stderr.data) <= start_err
                    and (left := deadline - time.monotonic()) > 0
                ):
                    command.changed.wait(left)
        return {
            "session_id": session.id,
            "stdout": command.stdout.text(start),
            "stderr": command.stderr.text(start_err),
            "offset": len(command.stdout.data),
            "stderr_offset": len(command.stderr.data),
            "command": {
                "command_id": command.id,
                "command": command.text,
                "status": command.status,
                "exit_code": command.exit_code,
            },
        }

    def _bash_write(self, body: Body) -> None:
        _feed(self._bash_command(body)[1], str(body.get("input", "")))

    def _bash_kill(self, body: Body) -> None:
        name = text(body, "signal") or "SIGTERM"
        if name not in _SIGNALS:
            raise Refusal(400, f"signal {name!r} is not known: {', '.join(sorted(_SIGNALS))}")
        self._bash_command(body)[1].kill(_SIGNALS[name])

    def _bash_command(self, body: Body) -> tuple[Session, Command]:
        session = self._bashes.get(required(body, "session_id"))
        wanted = text(body, "command_id")
        if session.last is None or (wanted is not None and wanted != session.last.id):
            raise Refusal(404, f"session {session.id} holds no such command: only its latest is kept")
        return session, session.last

    def _bash_list(self, _: Body) -> list[Body]:
        return [
            {
                "session_id": session.id,
                **_session_info(session),
                "status": "ready",
                "command_count": session.count,
            }
            for session in self._bashes.all()
        ]

    def _bash_create(self, body: Body) -> Body:
        session = self._bashes.open(text(body, "session_id"), self._directory(body, strict=True))
        return {"session_id": session.id, **_session_info(session), "status": "ready", "command_count": 0}

    # -- both

    def _start(
        self, session: Session, body: Body, *, merge: bool, env: Mapping[str, str], feed: bool
    ) -> Command:
        line = body.get("command")
        if not isinstance(line, str) or not line or "\0" in line:
            raise Refusal(400, "command must be a non-empty string")
        cwd = self._directory(body, strict=bool(body.get("strict")))
        try:
            return session.run(line, cwd=cwd, env={**self._env, **env}, merge=merge, feed=feed)
        except OSError as error:
            raise refusal(error, cwd or session.cwd) from error
        except ValueError as error:  # a NUL or "=" in a variable's name
            raise Refusal(400, str(error)) from error

    def _directory(self, body: Body, *, strict: bool) -> str | None:
        wanted = text(body, "exec_dir")
        if wanted is None:
            return None
        path = self._files.path(wanted)
        if os.path.isdir(path):
            return path
        if strict:
            raise Refusal(400, f"exec_dir {path} is not a directory")
        return None

    def _about(self) -> Body:
        system = os.uname()
        user = self._env.get("USER") or str(os.getuid())
        here = {"ver": sys.version.split()[0], "bin": sys.executable, "alias": ["python3"]}
        return {
            "home_dir": self._home,
            "workspace": self._home,
            "version": VERSION,
            "detail": {
                "system": {
                    "os": system.sysname,
                    "os_version": system.release,
                    "arch": system.machine,
                    "user": user,
                    "home_dir": self._home,
                    "workspace": self._home,
                    "timezone": time.tzname[0],
                    "occupied_ports": [str(self._port)],
                },
                "runtime": {"python": [here], "nodejs": []},
                "utils": [],
            },
        }


def wrapped(data: object, *, extra: Mapping[str, Any] | None = None) -> Answer:
    import json

    content = {"success": True, "message": "ok", "data": data, "hint": None, **(extra or {})}
    return Answer(body=json.dumps(content).encode())


def error_answer(status: int, message: str) -> Answer:
    import json

    return Answer(
        status=status, body=json.dumps({"success": False, "message": message, "data": None}).encode()
    )


def parse_body(request: Request) -> Body:
    import json

    if not request.body:
        return {}
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refusal(400, "the body must be a JSON object")
    return body


def query_value(query: str, name: str) -> str | None:
    if f"{name}=" not in query:
        return None
    from urllib.parse import parse_qs

    values = parse_qs(query, keep_blank_values=True, errors="surrogateescape").get(name)
    return values[0] if values else None


def text(body: Body, name: str) -> str | None:
    value = body.get(name)
    if value is None or isinstance(value, str):
        return value or None
    raise Refusal(400, f"{name} must be a string")


def required(body: Body, name: str) -> str:
    value = text(body, name)
    if value is None:
        raise Refusal(400, f"{name} is missing")
    return value


def seconds(body: Body, name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise Refusal(400, f"{name} must be a number of seconds")
    return float(value)


def middle_cut(output: str, limit: int) -> str:
    if len(output) <= limit:
        return output
    half = limit // 2
    return f"{output[:half]}\n[… {len(output) - 2 * half} characters left out …]\n{output[-half:] if half else ''}"


def _feed(command: Command | None, data: str) -> None:
    if command is None or not command.feed(data):
        raise Refusal(409, "no command there reads input: start it with async_mode")


def _limit_in_background(command: Command, hard: float | None) -> None:
    if hard is not None:
        import threading

        threading.Thread(target=command.wait, args=(None,), kwargs={"hard": hard}, daemon=True).start()


def _session_info(session: Session) -> Body:
    from datetime import UTC, datetime

    running = session.last is not None and session.last.running
    return {
        "working_dir": session.cwd if running else session.adopt_cwd(),
        "created_at": datetime.fromtimestamp(session.created, UTC).isoformat(),
        "last_used_at": datetime.fromtimestamp(session.used, UTC).isoformat(),
        "age_seconds": int(time.time() - session.created),
        "status": "running" if running else "idle",
        "current_command": session.last.text if session.last is not None and running else None,
    }
