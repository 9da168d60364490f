"""A second, real dockerd of a test's own: its data on a small disk, free to be filled, killed and started again.

Nothing it does shows in the machine's own engine. Needs root, dockerd and a mount.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.docker import connect
from tests.support.images import static_busybox

if TYPE_CHECKING:
    from docker import DockerClient

STARTS_WITHIN = 30.0  # seconds
DISK = 48  # MiB, for images, containers and the engine's own records


def lacks() -> str:
    """Why there is no use in trying; "" when there is."""
    if os.geteuid() != 0:
        return "an engine of one's own needs root"
    missing = [name for name in ("dockerd", "mount", "umount", "ip") if shutil.which(name) is None]
    if missing:
        return f"{missing[0]} is not installed"
    return "" if static_busybox() else "there is no static busybox to make images of"


_numbers = itertools.count()


class PrivateEngine:
    """One dockerd in `folder`, whose path has to be short. Start it, and close it at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.log = folder / "log"
        self.url = f"unix://{folder}/d.sock"
        number = (os.getpid() * 7 + next(_numbers)) % 60_000  # several at once in one process, too
        self._bridge = f"rt{number:x}"
        self._address = f"10.213.{number % 250}.1/24"
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """The disk and the network it needs."""
        self.root.mkdir(parents=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={DISK}m", "tmpfs", str(self.root))
        _run("ip", "link", "add", self._bridge, "type", "bridge")
        _run("ip", "address", "add", self._address, "dev", self._bridge)
        _run("ip", "link", "set", self._bridge, "up")

    def start(self) -> None:
        """Raises TimeoutError with the end of its log when it does not answer."""
        (self.folder / "pid").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["dockerd", "--host", self.url, "--data-root", str(self.root), "--exec-root",
                 f"{self.folder}/x", "--pidfile", f"{self.folder}/pid", "--bridge", self._bridge, "--iptables=false",
                 "--ip6tables=false", "--ip-masq=false", "--max-download-attempts=1", "--log-level=warn"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._answers():
                return
            time.sleep(0.05)
        raise TimeoutError(f"dockerd does not answer: {self.log.read_text(errors='replace')[-1000:]}")

    def _answers(self) -> bool:
        """Not through the SDK, which leaves a socket open when nobody answers."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(5)
            asking.connect(self.url.removeprefix("unix://"))
            asking.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 OK" in asking.recv(100)
        return False

    def stop(self) -> None:
        """As an upgrade does: its containers are asked to end."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(30)

    def kill(self) -> None:
        """As power fails: nothing is said to anybody."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        # Its containerd dies with it, a moment later; a new engine that finds that process id waits for it in vain.
        kept = self.folder / "x" / "containerd" / "containerd.pid"
        with contextlib.suppress(OSError, ValueError):
            process = int(kept.read_text())
            os.kill(process, signal.SIGKILL)
            while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.01)
        kept.unlink(missing_ok=True)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def client(self) -> DockerClient:
        return connect(self.url)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte is left on its disk until the end of the block."""
        filler = self.root / "filler"
        try:
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
            with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
                while True:
                    file.write(b"x")
            yield
        finally:
            filler.unlink(missing_ok=True)

    def close(self) -> None:
        """Every container of it ends; then the engine, its network and its disk."""
        with contextlib.suppress(TimeoutError):
            if not self.runs:
                self.start()
            with contextlib.closing(self.client()) as client:
                for item in client.api.containers(all=True):
                    client.api.remove_container(item["Id"], force=True, v=True)
        if self._process is not None and self.runs:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        subprocess.run(["umount", "--lazy", str(self.root)], capture_output=True)
        subprocess.run(["ip", "link", "delete", self._bridge], capture_output=True)


@contextlib.contextmanager
def private_engine(folder: Path) -> Iterator[PrivateEngine]:
    made = PrivateEngine(folder)
    try:
        made.prepare()
        made.start()
        yield made
    finally:
        made.close()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
