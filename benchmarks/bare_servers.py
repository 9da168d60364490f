"""The peer of the process backend: the same server program, started as a plain process, as many times as asked.

`python -m benchmarks.bare_servers COUNT THREADS FOLDER WORD…` ends when each answers, and leaves them running: the process
ids of what it started are what it prints, one a line. In the words `{fd}` becomes the descriptor that it is to listen on
and `{home}` the server's home.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.plain_sdk import wait_for

SERVER = Path(__file__).parents[1] / "reconciler" / "sandboxd" / "__main__.py"
PLAIN = (sys.executable, "-I", "-S", str(SERVER), "--listen-fd", "{fd}", "--home", "{home}")


def start(words: Sequence[str], home: Path) -> int:
    """One that answers: its process id."""
    home.mkdir()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        named = {"fd": str(listening.fileno()), "home": str(home)}
        server = subprocess.Popen(
            [word.format(**named) for word in words],
            pass_fds=[listening.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        port = listening.getsockname()[1]
    wait_for(port)
    return server.pid


def main(count: str, threads: str, folder: str, *words: str) -> None:
    homes = [Path(folder) / f"home-{i}" for i in range(int(count))]
    with ThreadPoolExecutor(int(threads)) as pool:
        pids = list(pool.map(start, [words] * len(homes), homes))
    print("\n".join(map(str, pids)))


if __name__ == "__main__":
    main(*sys.argv[1:])
