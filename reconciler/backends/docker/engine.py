"""The way to the engine: which one, how to ask it, and what its failures mean in our words.

Acting goes through the Docker SDK. Looking over a local socket goes straight to the Engine API: importing the SDK
costs more than a whole plan (docs/adr/0006). Must never let an SDK error, or a bare OSError, out.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from reconciler.backends.docker.failures import failure, unreachable
from reconciler.errors import (
    BackendError,
    ConfigError,
    NotFound,
    Permanent,
    ReconcilerError,
    Unavailable,
    Unsupported,
)

DEFAULT_URL = "unix:///var/run/docker.sock"
_OLDEST_API = (1, 40)  # the limits and mounts we rely on
_POOL = 32  # connections of the SDK's client; more callers than that wait

Json = dict[str, Any]
_INSPECTED = (("Id", str), ("Config", dict), ("State", dict), ("HostConfig", dict))  # of every container


class Engine:
    """One engine. Cheap to make: nothing is opened before the first question.

    `url` as in DOCKER_HOST; `tls` True, False or a mapping with ca_cert, client_cert, client_key, verify; `context`
    the name of a Docker context. `timeout` bounds each wait for the engine, in seconds.
    """

    def __init__(
        self,
        url: str | None,
        *,
        tls: bool | Mapping[str, Any] = False,
        context: str | None = None,
        timeout: float = 60.0,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.timeout = timeout
        self._environ = environ
        self._tls = tls
        self._lock = threading.Lock()
        self._idle: deque[SocketConnection] = deque()
        self._client: Any = None
        self._facts: Json | None = None
        self._is_podman: bool | None = None
        self._context = None if url else context or _current_context(environ)
        self.url = url or (None if self._context else environ.get("DOCKER_HOST") or DEFAULT_URL)

    def again(self, *, timeout: float) -> Engine:
        """The same engine, with connections of its own; its `timeout` is no longer than this one's."""
        return Engine(
            self.url,
            tls=self._tls,
            context=self._context,
            timeout=min(timeout, self.timeout),
            environ=self._environ,
        )

    @property
    def name(self) -> str:
        """For people and for `place`."""
        return self.url or f"context {self._context}"

    @property
    def socket_path(self) -> str | None:
        """The path of a local socket; None where the SDK has to know the way."""
        url = self.url or ""
        return url.removeprefix("unix://").removeprefix("http+unix://") if "unix://" in url else None

    @property
    def is_local(self) -> bool:
        """Whether paths and addresses of this machine mean the same to the engine, as far as one can tell."""
        return self.socket_path is not None

    # -- looking

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """The JSON answer to a GET. Raises NotFound for a 404, the BackendError tree for everything else."""
        try:
            return json.loads(self.text(path, query))
        except (ValueError, RecursionError) as error:
            raise self.nonsense("an answer that is no JSON") from error

    def text(self, path: str, query: Mapping[str, object] | None = None) -> str:
        """The same, as it came."""
        target = path + (f"?{urlencode({k: str(v) for k, v in query.items()})}" if query else "")
        if self.socket_path is None:
            client = self.sdk()
            with self.translated():
                return str(client._result(client._get(f"{client.base_url}{target}")))
        status, body = self._ask(target)
        if status == 200:
            return body.decode(errors="replace")
        raise failure(status, message_of(body), self.name)

    def _ask(self, target: str) -> tuple[int, bytes]:
        """Over a connection that was kept, if there is one; once more over a fresh one when the engine had closed
        it meanwhile."""
        kept = None
        with contextlib.suppress(IndexError):  # other threads take from it too
            kept = self._idle.pop()
        if kept is not None:
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                return self._answer(kept, target)
        try:
            return self._answer(SocketConnection(self.socket_path or "", self.timeout), target)
        except (OSError, http.client.HTTPException) as error:
            raise self.unreachable(error) from error

    def _answer(self, connection: SocketConnection, target: str) -> tuple[int, bytes]:
        try:
            connection.request("GET", target, headers={"Host": "docker"})
            response = connection.getresponse()
            answer = response.status, response.read()
        except BaseException as error:
            connection.close()
            if isinstance(error, TimeoutError):  # asking again would only wait twice as long
                raise self.unreachable(error) from error
            raise
        self._idle.append(connection)
        return answer

    def containers(self, *labels: str) -> list[Json]:
        """Every container, dead ones too, that carries all the labels (`key` or `key=value`): one call."""
        filters = json.dumps({"label": list(labels)})
        found = self.get("/containers/json", {"all": 1, "filters": filters})
        if not isinstance(found, list) or not all(isinstance(item, dict) and "Id" in item for item in found):
            raise self.nonsense("a listing that is none")
        return found

    def inspect(self, container: str) -> Json:
        """Raises NotFound only when that very container is not there: a 404 of a path, a proxy or another server is
        not its absence."""
        try:
            found = self.get(f"/containers/{quote(container, safe='')}/json")
        except NotFound as error:
            if "no such container" in error.message.lower():
                raise
            raise self.nonsense(f"a 404 that is about no container: {error.message[:200]}") from error
        if not isinstance(found, dict) or not all(
            isinstance(found.get(key), kind) for key, kind in _INSPECTED
        ):
            raise self.nonsense("an inspection that is none")
        return found

    def facts(self) -> Json:
        """What the engine says of itself, asked once."""
        if self._facts is None:
            found = self.get("/info")
            if not isinstance(found, dict):
                raise self.nonsense("no description of itself")
            self._facts = found
        return self._facts

    @property
    def is_podman(self) -> bool:
        """Which of the two speaks this API; asked once."""
        if self._is_podman is None:
            found = self.get("/version")
            parts = (found.get("Components") or ()) if isinstance(found, dict) else ()
            self._is_podman = any("podman" in str(part.get("Name")).lower() for part in parts)
        return self._is_podman

    @property
    def maps_users(self) -> bool:
        """Whether a user of a container is another one outside: a rootless engine, or remapped users."""
        options = self.facts().get("SecurityOptions") or ()
        return any("userns" in str(option) or "rootless" in str(option) for option in options)

    def nonsense(self, gave: str) -> Unavailable:
        """An answer that no engine gives: nothing is known of what happened."""
        return Unavailable(
            f"the engine at {self.name} gave {gave}",
            hint="is that a Docker engine? `host:` of the backend, or DOCKER_HOST, says where it is",
        )

    # -- acting

    def sdk(self) -> Any:
        """The SDK's client, one for all threads. Raises what `translated` makes of its failures, and Permanent
        where the SDK is not installed."""
        with self._lock:
            if self._client is None:
                try:
                    with self.translated():
                        self._client = self._connect()
                except ImportError as error:
                    raise Permanent(
                        f"the Docker SDK for Python cannot be imported: {error}",
                        hint="pip install 'sandbox-reconciler[docker]'",
                    ) from error
            return self._client

    def _connect(self) -> Any:
        from docker.api.client import APIClient
        from docker.tls import TLSConfig

        url, tls = self.url, self._tls
        if url is None:
            url, found = self._of_context()
            tls = tls or found
        if isinstance(tls, Mapping):
            tls = TLSConfig(
                client_cert=(tls["client_cert"], tls["client_key"]) if "client_cert" in tls else None,
                ca_cert=tls.get("ca_cert"),
                verify=tls.get("verify", True),
            )
        # Asked our own way where we can: the SDK leaves a socket open when nobody answers.
        spoken = "auto" if self.socket_path is None else self.get("/version")["ApiVersion"]
        client = APIClient(
            base_url=url, version=spoken, timeout=self.timeout, tls=tls, max_pool_size=_POOL, num_pools=_POOL
        )
        if self.socket_path is not None:
            from reconciler.backends.docker.transport import Adapter

            own = Adapter(f"http+unix://{self.socket_path}", self.timeout, _POOL, _POOL)
            client._custom_adapter = own
            client.mount("http+docker://", own)
        version = tuple(int(part) for part in client.api_version.split("."))
        if version < _OLDEST_API:
            raise Permanent(
                f"the engine at {self.name} speaks API {client.api_version}; at least 1.40 is needed",
                hint="update it to Docker 19.03 or newer",
            )
        return client

    def _of_context(self) -> tuple[str, Any]:
        from docker.context import ContextAPI

        found = ContextAPI.get_context(self._context)
        if found is None or not found.Host:
            raise ConfigError(
                f"there is no Docker context {self._context!r}",
                hint="`docker context ls` shows which there are",
            )
        return found.Host, found.TLSConfig or False

    def update(self, container: str, body: Mapping[str, object]) -> None:
        """Change limits of a running container. The SDK's own method knows neither processors nor pids.

        Raises Unsupported for an engine that knows no such call, as Podman 4.3.
        """
        client = self.sdk()
        try:
            with self.translated():
                client._result(
                    client._post_json(client._url("/containers/{0}/update", container), data=dict(body)),
                    json=True,
                )
        except NotFound as error:
            if error.message != "Not Found":  # of a container it is "No such container: …"
                raise
            raise Unsupported(
                f"the engine at {self.name} cannot change limits of a running container",
                hint=f"remove it (`podman rm -f {container[:12]}`): the next apply makes it with the new limits",
            ) from error

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Whatever the SDK raises inside comes out of our tree, chained."""
        try:
            yield
        except (ReconcilerError, ImportError):
            raise
        except Exception as error:
            raise self._translation(error) from error

    def _translation(self, error: Exception) -> BackendError:
        from docker.errors import APIError, DockerException

        if isinstance(error, APIError):
            status = error.response.status_code if error.response is not None else 500
            return failure(status, str(error.explanation or error), self.name)
        # What the SDK's HTTP library raises is an OSError; what lies below that may come through as it is.
        below = type(error).__module__.startswith("urllib3")
        if below or isinstance(error, (OSError, http.client.HTTPException)):
            return self.unreachable(error)
        if isinstance(error, DockerException):
            cause = error.__context__
            return self.unreachable(cause if isinstance(cause, Exception) else error)
        return Permanent(f"the Docker SDK failed: {type(error).__name__}: {error}")

    def unreachable(self, error: BaseException) -> BackendError:
        """What a failed connection means."""
        return unreachable(error, self.name, self.timeout)

    def close(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def __del__(self) -> None:
        """Plain callers of a backend need not close it."""
        with contextlib.suppress(Exception):  # half made, or at the end of the interpreter
            self.close()


class SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def message_of(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return body.decode(errors="replace").strip()[:300]


def _current_context(environ: Mapping[str, str]) -> str | None:
    """The context the `docker` command would use; None for the default one."""
    if environ.get("DOCKER_HOST"):
        return None
    name = environ.get("DOCKER_CONTEXT", "")
    if not name:
        folder = Path(environ.get("DOCKER_CONFIG") or Path("~/.docker").expanduser())
        with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
            name = str(
                json.loads((folder / "config.json").read_text(encoding="utf-8")).get("currentContext", "")
            )
    return name if name not in ("", "default") else None
