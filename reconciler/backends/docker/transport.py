"""The SDK's way over a local socket, without the socket it leaves open when nobody answers: a loop that waits for an
engine to come back would leave one each time. Imported where the SDK is needed, never before.
"""

from __future__ import annotations

import socket
from typing import Any

from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool


class _Connection(UnixHTTPConnection):  # type: ignore[misc]  # the SDK has no types
    def connect(self) -> None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(self.timeout)
            made.connect(self.unix_socket)
        except BaseException:
            made.close()
            raise
        self.sock = made


class _Pool(UnixHTTPConnectionPool):  # type: ignore[misc]
    def _new_conn(self) -> _Connection:
        return _Connection(self.base_url, self.socket_path, self.timeout)


class Adapter(UnixHTTPAdapter):  # type: ignore[misc]
    """To be mounted on a client in the place of its own."""

    def get_connection(self, url: str, proxies: Any = None) -> _Pool:
        with self.pools.lock:
            pool: _Pool | None = self.pools.get(url)
            if pool is None:
                pool = self.pools[url] = _Pool(
                    url, self.socket_path, self.timeout, maxsize=self.max_pool_size
                )
            return pool
