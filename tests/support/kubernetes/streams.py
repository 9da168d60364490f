"""The subresources of a pod that stream: log, exec and portforward. What runs is a real process on this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

from tests.support.kubernetes import refusals
from tests.support.kubernetes.api import Call
from tests.support.kubernetes.http import Handler
from tests.support.kubernetes.kubelet import Kubelet, Running
from tests.support.kubernetes.refusals import Json, Refusal
from tests.support.kubernetes.websocket import WebSocket, accept_key

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
EXEC_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")


class Streams:
    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet

    def _found(self, handler: Handler, call: Call) -> tuple[Json, Running, Json]:
        """(pod, what runs, the container meant). Raises Refusal where there is nothing to talk to."""
        pod = handler.server.api.get(call)
        names = [container["name"] for container in pod["spec"]["containers"]]
        name = call.query.get("container") or names[0]
        if name not in names:
            raise refusals.bad_request(f"container {name} is not valid for pod {call.name}")
        if not pod["spec"].get("nodeName"):
            raise refusals.bad_request(f"pod {call.name} does not have a host assigned")
        running = self._kubelet.pods.get(pod["metadata"]["uid"])
        if running is None:
            raise refusals.bad_request(
                f'container "{name}" in pod "{call.name}" is waiting to start: ContainerCreating'
            )
        return pod, running, next(each for each in pod["spec"]["containers"] if each["name"] == name)

    def log(self, handler: Handler, call: Call) -> None:
        pod, running, container = self._found(handler, call)
        told = pod["status"].get("containerStatuses") or ()
        state = next((each for each in told if each["name"] == container["name"]), None)
        if state is None:
            raise refusals.bad_request(
                f'container "{container["name"]}" in pod "{call.name}" is waiting to start: ContainerCreating'
            )
        previous = call.query.get("previous") == "true"
        if previous and not running.restarts:
            raise refusals.bad_request(
                f'previous terminated container "{container["name"]}" in pod "{call.name}" not found'
            )
        if "waiting" in state["state"] and not running.restarts:
            reason = state["state"]["waiting"]["reason"]
            name = container["name"]
            raise refusals.bad_request(
                f'container "{name}" in pod "{call.name}" is waiting to start: {reason}'
            )
        lines = running.former_log if previous else running.log or running.former_log
        if "tailLines" in call.query:
            count = int(call.query["tailLines"])
            lines = lines[-count:] if count else []
        stamped = call.query.get("timestamps") == "true"
        text = "".join(_line(line, stamped) for line in lines).encode()
        if "limitBytes" in call.query:
            text = text[: int(call.query["limitBytes"])]
        if call.query.get("follow") != "true":
            handler.send(200, text, "text/plain")
            return
        handler.begin_stream("text/plain")
        if text:
            handler.chunk(text)
        self._follow(handler, running, stamped)

    def _follow(self, handler: Handler, running: Running, stamped: bool) -> None:
        seen = len(running.log)
        try:
            while running.uid in self._kubelet.pods and running.serving and not running.stopping:
                lines = running.log[seen:]
                seen += len(lines)
                if lines:
                    handler.chunk("".join(_line(line, stamped) for line in lines).encode())
                time.sleep(self._kubelet.pace)
            handler.chunk(b"")
        except OSError:
            handler.close_connection = True

    def exec(self, handler: Handler, call: Call) -> None:
        pod, running, container = self._found(handler, call)
        command = [value for name, value in parse_qsl(urlsplit(handler.path).query) if name == "command"]
        if not command:
            raise refusals.bad_request("you must specify at least one command for the container")
        if not running.serving:
            raise Refusal(500, f'container not found ("{container["name"]}")')
        protocol, sock = _upgraded(handler, EXEC_PROTOCOLS)
        environment = self._kubelet.environment(pod, container, running)
        wants = {
            name for name in ("stdin", "stdout", "stderr", "tty") if call.query.get(name) in ("true", "1")
        }
        try:
            process = subprocess.Popen(
                command, cwd=running.root, env=environment, start_new_session=True,
                stdin=subprocess.PIPE if "stdin" in wants else subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            message = (
                'OCI runtime exec failed: exec failed: unable to start container process: exec: "'
                f'{command[0]}": {error.strerror}: unknown'
            )
            sock.send(bytes([ERROR]) + json.dumps(_failure(message, "InternalError", 500)).encode())
            sock.close()
            return
        with process:
            try:
                self._carry(process, sock, protocol, wants)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def _carry(
        self, process: subprocess.Popen[bytes], sock: WebSocket, protocol: str, wants: set[str]
    ) -> None:
        def copy(source: object, channel: int) -> None:
            try:
                while data := source.read1(65536):  # type: ignore[attr-defined]
                    sock.send(bytes([channel]) + data)
            except (OSError, ValueError):
                pass

        def listen() -> None:
            try:
                while (message := sock.receive()) is not None:
                    if message[:1] == bytes([STDIN]) and process.stdin:
                        process.stdin.write(message[1:])
                        process.stdin.flush()
                    elif message == bytes([CLOSE, STDIN]) and protocol.startswith("v5") and process.stdin:
                        process.stdin.close()
            except (OSError, ValueError):
                pass
            if process.poll() is None:  # the client is gone: so is its process
                os.killpg(process.pid, signal.SIGKILL)

        pumps = [
            threading.Thread(target=copy, args=(source, channel), daemon=True)
            for source, channel in ((process.stdout, STDOUT), (process.stderr, STDERR))
        ]
        listener = threading.Thread(target=listen, daemon=True)
        for thread in (*pumps, listener):
            thread.start()
        code = process.wait()
        for thread in pumps:
            thread.join(5)
        code = code if code >= 0 else 128 - code
        end = {"metadata": {}, "status": "Success"} if code == 0 else _exit_status(code)
        try:
            sock.send(bytes([ERROR]) + json.dumps(end).encode())
            sock.close()
        except OSError:
            pass

    def portforward(self, handler: Handler, call: Call) -> None:
        """The WebSocket form: for the nth port, channel 2n carries data and 2n+1 errors; each begins with the port."""
        _, running, _ = self._found(handler, call)
        asked = [value for name, value in parse_qsl(urlsplit(handler.path).query) if name == "ports"]
        ports = [int(port) for value in asked for port in value.split(",")]
        if not ports:
            raise refusals.bad_request("you must specify at least 1 port")
        _, sock = _upgraded(handler, ("v4.channel.k8s.io",))
        connections: dict[int, socket.socket] = {}
        for at, port in enumerate(ports):
            for channel in (2 * at, 2 * at + 1):
                sock.send(bytes([channel]) + port.to_bytes(2, "little"))
            try:
                connections[2 * at] = socket.create_connection((running.address, port), 5)
            except OSError as error:
                text = f"error forwarding port {port} to pod {call.name}, uid : failed to connect: {error}"
                sock.send(bytes([2 * at + 1]) + text.encode())
                continue
            threading.Thread(target=_back, args=(connections[2 * at], sock, 2 * at), daemon=True).start()
        try:
            while (message := sock.receive()) is not None:
                if message[0] in connections:
                    connections[message[0]].sendall(message[1:])
        finally:
            for connection in connections.values():
                connection.close()


def _back(connection: socket.socket, sock: WebSocket, channel: int) -> None:
    try:
        connection.settimeout(None)
        while data := connection.recv(65536):
            sock.send(bytes([channel]) + data)
        sock.close()
    except OSError:
        pass


def _line(line: str, stamped: bool) -> str:
    return f"{datetime.now(UTC).isoformat()} {line}\n" if stamped else f"{line}\n"


def _failure(message: str, reason: str, code: int) -> Json:
    return {"metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}


def _exit_status(code: int) -> Json:
    message = f"command terminated with non-zero exit code: exit status {code}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def _upgraded(handler: Handler, known: tuple[str, ...]) -> tuple[str, WebSocket]:
    """Raises Refusal where the client asks for no WebSocket, or for no protocol that is known."""
    headers = handler.request_seen.headers
    if "websocket" not in headers.get("upgrade", "").lower():
        raise refusals.bad_request("Upgrade request required")
    asked = [each for each in re.split(r"\s*,\s*", headers.get("sec-websocket-protocol", "")) if each]
    chosen = next((each for each in asked if each in known), "")
    if not chosen:
        raise Refusal(
            403,
            f"unable to upgrade: unable to negotiate protocol: client supports {asked}, server {list(known)}",
        )
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Sec-WebSocket-Accept", accept_key(headers.get("sec-websocket-key", "")))
    handler.send_header("Sec-WebSocket-Protocol", chosen)
    handler.end_headers()
    handler.close_connection = True
    return chosen, WebSocket(handler.connection, handler.rfile)
