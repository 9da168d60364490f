"""A Podman of the tests' own: its Docker-compatible socket, storage and settings in a temporary folder.

Nothing it does shows in the machine's own Podman. Needs root, podman, and a runtime that it can start containers with.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.docker import PORT_TAKEN, PORT_TRIES, EngineStack, Images, connect, engine_stack
from tests.support.images import image, static_busybox
from tests.support.required import skip_unless

if TYPE_CHECKING:
    from docker import DockerClient

STARTS_WITHIN = 30.0  # seconds
FIREWALL_LOCK = Path(tempfile.gettempdir()) / "reconciler-test-netavark.lock"
_INITS = ("catatonit", "docker-init", "tini")  # Podman looks for the first in a folder of its own only

requires_podman = pytest.mark.usefixtures("podman_socket")


class Podman:
    """One Podman in `folder`. Use it as a context manager: at the end every container of its own is removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "podman.sock"
        self.log = folder / "podman.log"
        self._service: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def command(self, *args: str) -> list[str]:
        """The command line that works on this Podman's own storage."""
        kept = [
            "--root",
            f"{self.folder}/root",
            "--runroot",
            f"{self.folder}/run",
            "--tmpdir",
            f"{self.folder}/tmp",
        ]
        network = ["--network-config-dir", f"{self.folder}/networks"]
        return ["podman", *kept, *network, "--storage-driver", "vfs", *args]

    def run(self, *args: str, stdin: bytes = b"", timeout: float = 60) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command(*args), input=stdin, env=self._environ(), capture_output=True, timeout=timeout
        )

    def _environ(self) -> dict[str, str]:
        return {**os.environ, "CONTAINERS_CONF": str(self.folder / "containers.conf")}

    def __enter__(self) -> Podman:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "networks").mkdir()
        (self.folder / "networks" / "podman.json").write_text(json.dumps(_network(os.getpid())))
        # Two Podmans that set up the firewall's chains at once trip over each other: all of ours take one lock.
        (self.folder / "networks" / "netavark.lock").symlink_to(FIREWALL_LOCK)
        (self.folder / "containers.conf").write_text(settings())
        with self.log.open("wb") as log:
            self._service = subprocess.Popen(
                self.command("system", "service", "--time=0", self.url),
                env=self._environ(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        return self

    def wait(self) -> str:
        """Until the service answers: "", or why it does not."""
        assert self._service is not None
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline and self._service.poll() is None:
            if self.socket.exists():
                with (
                    contextlib.suppress(Exception),
                    contextlib.closing(connect(self.url, timeout=10)) as client,
                ):
                    client.ping()
                    return ""
            time.sleep(0.05)
        return f"its service does not answer: {self.log.read_text(errors='replace').strip()[-500:]}"

    def __exit__(self, *_: object) -> None:
        assert self._service is not None
        self.run("rm", "--all", "--force", "--time", "0", "--volumes")
        self.run("network", "prune", "--force")
        self._service.send_signal(signal.SIGTERM)
        try:
            self._service.wait(10)
        except subprocess.TimeoutExpired:
            self._service.kill()
            self._service.wait()
        if shutil.which("ip"):  # a start that failed half way leaves its bridge behind
            subprocess.run(["ip", "link", "delete", _bridge(os.getpid())], capture_output=True)


def settings() -> str:
    """A containers.conf for a machine without systemd, perhaps without CAP_SYS_RESOURCE.

    Rootful Podman asks for a million open files and four million processes; a process without that capability may not
    raise a hard limit, and every start fails with "error setting rlimit". So modest ones, below this process's own.
    """
    limits = {"nofile": (resource.RLIMIT_NOFILE, 1024), "nproc": (resource.RLIMIT_NPROC, 4096)}
    modest = {name: _at_most(kind, number) for name, (kind, number) in limits.items()}
    ulimits = ", ".join(f'"{name}={number}:{number}"' for name, number in modest.items())
    found = next((path for name in _INITS if (path := shutil.which(name))), None)
    init = (
        [f'init_path = "{found}"'] if found else []
    )  # the command line reads one of the two, the socket the other
    return "\n".join([
        "[containers]", f"default_ulimits = [{ulimits}]", *init,
        "[engine]", 'cgroup_manager = "cgroupfs"', 'events_logger = "file"', *init, 'lock_type = "file"', "",
    ])  # fmt: skip


def _network(number: int) -> dict[str, object]:
    """The default network, on a bridge and a subnet of this process's own: Podmans with storage of their own do not
    know which addresses another one has given away."""
    subnet = f"10.{192 + number // 256 % 64}.{number % 256}"
    return {
        "name": "podman", "id": f"{number:064x}", "driver": "bridge", "network_interface": _bridge(number),
        "created": "2026-01-01T00:00:00Z", "subnets": [{"subnet": f"{subnet}.0/24", "gateway": f"{subnet}.1"}],
        "ipv6_enabled": False, "internal": False, "dns_enabled": False, "ipam_options": {"driver": "host-local"},
    }  # fmt: skip


def _bridge(number: int) -> str:
    return f"rtest{number}"


def _at_most(kind: int, number: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return number if hard == resource.RLIM_INFINITY else min(number, hard)


def lacks_containers(podman: Podman) -> str:
    """Why no container with a published port runs on it; "" when one does."""
    made = image()
    loaded = podman.run("load", stdin=made.archive())
    if loaded.returncode:
        return f"it loads no image: {loaded.stderr.decode(errors='replace').strip()[-500:]}"
    for _ in range(PORT_TRIES):
        tried = podman.run("run", "--rm", "--init", "--publish", "127.0.0.1::8080", made.reference, "true")
        if PORT_TAKEN not in tried.stderr.decode(errors="replace"):
            break
    return "" if tried.returncode == 0 else tried.stderr.decode(errors="replace").strip()[-500:]


@functools.cache
def podman_lacks() -> str:
    """Why there is no use in trying; "" when there is."""
    if shutil.which("podman") is None:
        return "podman is not installed"
    if os.geteuid() != 0:
        return "podman is tested as root only"
    return "" if static_busybox() else "there is no static busybox to make images of"


# -- fixtures, known to every test by tests/conftest.py


@pytest.fixture(scope="session")
def podman_socket() -> Iterator[str]:
    """The URL of a Podman of this worker's own that runs containers. Skips where it cannot; in CI that fails."""
    lacks = podman_lacks()
    skip_unless(not lacks, lacks)
    # Podman takes no path of more than 50 characters for what it keeps while it runs; a test's own folder is longer.
    with tempfile.TemporaryDirectory(prefix="rtest", dir="/tmp") as name, Podman(Path(name) / "p") as podman:
        lacks = podman.wait() or lacks_containers(podman)
        skip_unless(not lacks, f"podman runs no containers here: {lacks}")
        yield podman.url


@pytest.fixture(scope="session")
def podman_client(podman_socket: str) -> Iterator[DockerClient]:
    with contextlib.closing(connect(podman_socket)) as client:
        yield client


@pytest.fixture
def podman_stack(podman_client: DockerClient, podman_socket: str) -> Iterator[EngineStack]:
    with engine_stack(podman_client, Images(podman_client), podman_socket) as made:
        yield made
