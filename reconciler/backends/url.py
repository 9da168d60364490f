"""The `url` backend: a sandbox that somebody else runs at a known address.

It is looked at and waited for, and nothing else: others made it, and others end it. Must never send anything but a GET.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping, Sequence
from typing import ClassVar

from reconciler.backends import trust
from reconciler.backends.base import Capabilities, SandboxBackend, Support
from reconciler.errors import ConfigError, Permanent
from reconciler.model.desired import SandboxSpec, Secret
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo
from reconciler.transport.connection import connect_within, connection_to

_TIMEOUT = 5.0  # seconds for one look
_ELSEWHERE = "it was made elsewhere, and is as it was made"

_REFUSED = (
    *("image", "command", "entrypoint", "environment", "secrets", "ports", "mounts", "resources", "network"),
    *("security", "runtime", "restart", "thread_id"),
)

CAPABILITIES = Capabilities(
    fields={**dict.fromkeys(_REFUSED, Support.REFUSED), "labels": Support.NOTED},
    why={
        **dict.fromkeys(_REFUSED, _ELSEWHERE),
        "labels": "it exists elsewhere, so the state alone knows them",
    },
    updatable=("labels",),
    owns=False,
    made_elsewhere=True,
    create_cost="instant",
)


class UrlBackend(SandboxBackend):
    """Whatever its name, the sandbox at `url`. `api_key` is the sandbox's own, sent as X-AIO-API-Key (as text from plain
    Python); `timeout` in seconds bounds one look. Raises ConfigError for options that are wrong."""

    capabilities: ClassVar[Capabilities] = CAPABILITIES

    def __init__(
        self, url: str, api_key: Secret | str | None = None, *, timeout: float | None = None
    ) -> None:
        if timeout is not None and not 0 < timeout < 1e6:
            raise ConfigError("`timeout` is no time", hint="write one such as 5s")
        self._url = trust.address(url)
        self._key = trust.key(api_key)
        self._timeout = _TIMEOUT if timeout is None else timeout

    def create(
        self,
        thread_id: str | None,
        sandbox_id: str,
        extra_mounts: list[tuple[str, str, bool]] | None = None,
        *,
        spec: SandboxSpec | None = None,
    ) -> SandboxInfo:
        """Where it is. Nothing is made."""
        if extra_mounts:
            raise Permanent(f"nothing can be mounted into {self._url}: {_ELSEWHERE}")
        return self._info(sandbox_id)

    def destroy(self, info: SandboxInfo) -> None:
        """Nothing: it is not ours to end."""

    def is_alive(self, info: SandboxInfo) -> bool:
        """Nobody here can say that it is gone for good, so it never is."""
        return True

    def discover(self, sandbox_id: str) -> SandboxInfo | None:
        return self._info(sandbox_id)

    def look(self, sandbox_id: str) -> ObservedSandbox | None:
        wrong = self._objection()
        phase = Phase.UNREADY if wrong else Phase.STARTING
        return ObservedSandbox(info=self._info(sandbox_id), phase=phase, detail=wrong)

    def update(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        """All that can change is what is recorded."""
        return self._info(info.sandbox_id)

    def request_headers(self, info: SandboxInfo) -> Mapping[str, str]:
        """To its own address alone: a recorded one may be another."""
        if self._key is None or info.sandbox_url.rstrip("/") != self._url:
            return {}
        return {"X-AIO-API-Key": self._key.reveal()}

    def check(self) -> Sequence[tuple[str, bool, str]]:
        wrong = self._objection()
        return (("sandbox", not wrong, wrong or f"{self._url} answers"),)

    def _info(self, sandbox_id: str) -> SandboxInfo:
        return SandboxInfo(sandbox_id=sandbox_id, sandbox_url=self._url)

    def _objection(self) -> str:
        """Why it does not answer; "" when it does, whatever it answers to a question without its readiness path."""
        try:
            connection, target = connection_to(f"{self._url}/v1/sandbox", self._timeout)
            try:
                connect_within(connection, self._timeout)
                connection.request("GET", target, headers=self._headers())
                with connection.getresponse() as response:
                    status = response.status
            finally:
                connection.close()
        except TimeoutError:
            return f"{self._url} did not answer within {self._timeout:g} s"
        except ConnectionRefusedError:
            return f"nobody listens at {self._url}"
        except http.client.HTTPException as error:
            return f"{self._url} answers with something that is no HTTP ({type(error).__name__})"
        except OSError as error:
            return f"{self._url} cannot be reached: {error.strerror or error}"
        if status in (401, 403):
            return f"{self._url} is up, but refuses {'our key' if self._key else 'us without a key'} (HTTP {status})"
        return f"{self._url} is up, but fails (HTTP {status})" if status >= 500 else ""

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "*/*", "Connection": "close"}
        if self._key is not None:
            headers["X-AIO-API-Key"] = self._key.reveal()
        return headers
