"""How late readiness is noticed: a real HTTP server starts to answer at a random moment; beside it a fixed 1 s poll."""

from __future__ import annotations

import http.server
import random
import statistics
import threading
import time
import urllib.error
import urllib.request

from reconciler.engine.ready import wait_for_sandbox_ready

ROUNDS = 40


class Late(http.server.ThreadingHTTPServer):
    """503 until `ready_at` on the monotonic clock, then 200."""

    ready_at = 0.0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Late)
        self.send_response(200 if time.monotonic() >= self.server.ready_at else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def fixed_poll(url: str) -> None:
    """The seed's loop, from its description: ask, sleep one second, ask again."""
    while True:
        try:
            with urllib.request.urlopen(f"{url}/v1/sandbox", timeout=5):
                return
        except urllib.error.HTTPError:
            time.sleep(1)


def main() -> None:
    rng = random.Random(1)
    server = Late(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    lags: dict[str, list[float]] = {"adaptive": [], "fixed 1 s": []}
    for name, rounds in (("adaptive", ROUNDS), ("fixed 1 s", 8)):
        for _ in range(rounds):
            server.ready_at = time.monotonic() + rng.uniform(0.05, 1.0)
            if name == "adaptive":
                assert wait_for_sandbox_ready(url, 30)
            else:
                fixed_poll(url)
            lags[name].append(time.monotonic() - server.ready_at)
    server.shutdown()
    server.server_close()
    for name, values in lags.items():
        print(
            f"{name:10}  median {statistics.median(values) * 1000:6.1f} ms late, worst {max(values) * 1000:6.1f} ms"
        )
    ratio = statistics.median(lags["fixed 1 s"]) / statistics.median(lags["adaptive"])
    print(f"{ratio:.0f} times sooner than a fixed poll (goal: noticed within 20 ms in the median)")


if __name__ == "__main__":
    main()
