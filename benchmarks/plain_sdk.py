"""The peer: the plain Docker SDK in a pool of threads, as one would write it without us.

`python -m benchmarks.plain_sdk make|remove HOST IMAGE LABEL COUNT THREADS`
"""

from __future__ import annotations

import contextlib
import http.client
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker import DockerClient

POLL = 0.02  # seconds


def make(client: DockerClient, image: str, label: str) -> None:
    """One container that answers."""
    made = client.containers.create(
        image, labels={label: "yes"}, environment={"LOG_LEVEL": "info"}, ports={"8080/tcp": ("127.0.0.1", None)},
        mem_limit="64m", memswap_limit="64m", nano_cpus=500_000_000, pids_limit=64, cap_drop=["ALL"],
        security_opt=["no-new-privileges"], init=True,
    )  # fmt: skip
    made.start()
    answered(client, str(made.id))


def answered(client: DockerClient, identity: str) -> None:
    """Returns when `GET /v1/sandbox` gives 200. Raises TimeoutError after two minutes."""
    bound = client.api.inspect_container(identity)["NetworkSettings"]["Ports"]["8080/tcp"]
    wait_for(int(bound[0]["HostPort"]))


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/v1/sandbox")
            if connection.getresponse().status == 200:
                return
        time.sleep(POLL)
    raise TimeoutError(f"nothing answers on port {port}")


def main(verb: str, host: str, image: str, label: str, count: str, threads: str) -> None:
    import docker  # nothing of the tests' support: a script of one's own would not import it

    connections = {"max_pool_size": int(threads)}
    with (
        contextlib.closing(docker.DockerClient(base_url=host, timeout=60, **connections)) as client,
        ThreadPoolExecutor(int(threads)) as pool,
    ):
        if verb == "make":
            list(pool.map(lambda _: make(client, image, label), range(int(count))))
        else:
            found = client.containers.list(all=True, filters={"label": label})
            list(pool.map(lambda container: container.remove(force=True), found))


if __name__ == "__main__":
    main(*sys.argv[1:])
