"""Accepts connections, checks the key, hands requests to `routes`. One thread per connection, at most MAX_OPEN."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time

from reconciler.sandboxd.routes import Routes, error_answer, query_value
from reconciler.sandboxd.wire import Answer, Connection, Refusal, Request

MAX_OPEN = 256
STOP_SECONDS = 1.0
MAX_LOG = 8 * 1024 * 1024
STACK_BYTES = 512 * 1024  # the address space of 256 threads must fit into a sandbox's memory limit


class Server:
    """`key` None serves everyone, for use by hand on loopback; else every request needs it."""

    def __init__(self, listening: socket.socket, *, routes: Routes, key: str | None) -> None:
        self._listening = listening
        self._routes = routes
        self._key = None if key is None else key.encode()
        self._open = threading.BoundedSemaphore(MAX_OPEN)
        self._busy = 0
        self._stopping = False
        self._lock = threading.Lock()
        self._logged = 0

    def run(self) -> None:
        """Until SIGTERM; then no new connections, running commands are ended, their answers sent."""
        threading.stack_size(STACK_BYTES)
        waking, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(
            wake
        )  # a signal between a look at the flag and a blocking call would else be slept over
        signal.signal(signal.SIGTERM, self._ask_to_stop)
        self.log("serving")
        self._accept(waking)
        self._listening.close()
        self._routes.stop()
        deadline = time.monotonic() + STOP_SECONDS
        while self._busy and time.monotonic() < deadline:
            time.sleep(0.005)
        self.log("stopped")

    def _ask_to_stop(self, *_: object) -> None:
        self._stopping = True

    def _accept(self, waking: int) -> None:
        self._listening.setblocking(False)
        poller = select.poll()
        poller.register(self._listening, select.POLLIN)
        poller.register(waking, select.POLLIN)
        while not self._stopping:
            poller.poll()
            if self._open.acquire(timeout=0.1) and not self._take():
                self._open.release()

    def _take(self) -> bool:
        """One connection gets its thread; False when there was none to take."""
        try:
            client, _ = self._listening.accept()
        except BlockingIOError:
            return False
        except OSError as error:  # a client that left early, or no descriptors: neither ends the server
            self.log(f"accept: {error}")
            time.sleep(0.05)
            return False
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(Connection(client),), daemon=True).start()
        except (
            OSError,
            RuntimeError,
        ) as error:  # gone already; or no more threads, such as under a pids limit
            client.close()
            self.log(f"a connection was not served: {error}")
            return False
        return True

    def _serve(self, connection: Connection) -> None:
        try:
            while self._serve_one(connection):
                continue
        except OSError:
            return  # the client left, or was idle for too long
        finally:
            connection.close()
            self._open.release()

    def _serve_one(self, connection: Connection) -> bool:
        """One request; False when the connection is done."""
        request: Request | None = None
        try:
            request = connection.read(self._admit)
            if request is None:
                return False
            with self._lock:
                self._busy += 1
        except Refusal as refused:
            answer = error_answer(refused.status, refused.message)
            if refused.status == 401:
                answer.headers["WWW-Authenticate"] = "Bearer"
            connection.write(answer, keep_alive=False)
            return False
        try:
            start = time.monotonic()
            answer, keep_alive = self._answer(request)
            connection.write(answer, keep_alive=keep_alive)
            if request.path != "/v1/sandbox" or answer.status != 200:
                self.log(f"{request.method} {request.path} {answer.status} {time.monotonic() - start:.3f}s")
            return keep_alive
        finally:
            with self._lock:
                self._busy -= 1

    def _answer(self, request: Request) -> tuple[Answer, bool]:
        keep_alive = request.keep_alive and not self._stopping
        try:
            return self._routes.answer(request), keep_alive
        except Refusal as refused:
            return error_answer(refused.status, refused.message), keep_alive and not refused.close
        except Exception as error:  # noqa: BLE001 - one request's bug must not take the server down
            self.log(f"{request.method} {request.path} failed: {type(error).__name__}: {error}")
            return error_answer(500, f"{type(error).__name__}: {error}"), False

    def _admit(self, request: Request) -> None:
        """Before its body is read: whoever has no key cannot make us hold 32 MiB."""
        if not self._allowed(request):
            self.log(f"{request.method} {request.path} 401")
            raise Refusal(401, "the API key is missing or wrong", close=True)

    def _allowed(self, request: Request) -> bool:
        if self._key is None:
            return True
        # Where hmac has it from. `import hmac` itself loads OpenSSL, which takes a fifth of the time to the first answer.
        from _operator import _compare_digest as compare_digest

        given = request.headers.get("x-aio-api-key")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if given is None and scheme.lower() == "bearer":
            given = token.strip()
        if given is None:
            given = query_value(request.query, "api_key")
        return given is not None and compare_digest(given.encode("utf-8", "surrogateescape"), self._key)

    def log(self, line: str) -> None:
        """To stderr, without queries and bodies: both can hold secrets. Stops at 8 MiB."""
        if self._logged < MAX_LOG:
            text = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} sandboxd: {line}\n"
            self._logged += len(text)
            try:
                os.write(sys.stderr.fileno(), text.encode("utf-8", "replace"))
            except OSError:  # a full disk must not stop the sandbox
                return
