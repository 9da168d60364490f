"""Spans as a real collector gets them; nothing is imported where nobody asked for any."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from reconciler.model.desired import Address
from reconciler.model.drift import Cause
from reconciler.model.plan import Action
from reconciler.model.watching import Corrected, Looked
from reconciler.operations.traces import traces_of

LOOK = Looked(at=1000.0, seconds=0.25, desired=2, observed=2, ready=1, drifted=1)
DONE = Corrected(
    at=1002.0, address=Address("web"), backend="local", sandbox_id="w", action=Action.REPAIR, reason="dead",
    cause=Cause.KILLED, seconds=2.0, took=1.5, error="it ended again",
)  # fmt: skip


def test_a_collector_gets_a_span_for_each_look_and_correction(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    told: list[str] = []
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        for name, there in environ.items():
            monkeypatch.setenv(name, there)  # the library reads its own
        traces = traces_of(environ, stack="research", version="1", told=told.append)
        assert traces is not None
        traces(LOOK)
        traces(DONE)
        traces.close()
        server.shutdown()
        thread.join()
    request = ExportTraceServiceRequest()
    for body in taken:
        request.MergeFromString(body)
    spans = [span for r in request.resource_spans for scope in r.scope_spans for span in scope.spans]
    by_name = {span.name: span for span in spans}
    assert set(by_name) == {"look", "correct"}
    lasted = {
        name: (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 for name, span in by_name.items()
    }
    assert {name: round(seconds, 2) for name, seconds in lasted.items()} == {"look": 0.25, "correct": 1.5}
    assert by_name["correct"].status.code == 2
    said = {a.key: a.value.string_value for a in by_name["correct"].attributes}
    assert said["reconciler.address"] == "web"
    assert told == []


def test_without_a_collector_there_are_none() -> None:
    assert traces_of({}, stack="research", version="1", told=lambda _: None) is None


def test_nothing_is_imported_that_was_not_asked_for() -> None:
    """Neither by a plan nor by a watch without options."""
    script = (
        "import sys; import reconciler.cli.commands.watch, reconciler.cli.operations, reconciler.engine.watch; "
        "print([name for name in sys.modules if name.startswith(('prometheus', 'opentelemetry'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
