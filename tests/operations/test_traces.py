"""Spans as a real collector gets them; nothing is imported where nobody asked for any."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from msgspec.structs import replace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from reconciler.model.desired import Address
from reconciler.model.drift import Cause
from reconciler.model.plan import Action
from reconciler.model.watching import Corrected, Looked, WatchEvent
from reconciler.operations.traces import traces_of

LOOK = Looked(at=1000.0, seconds=0.25, desired=2, observed=2, ready=1, drifted=1)
DONE = Corrected(
    at=1002.0, address=Address("web"), backend="local", sandbox_id="w", action=Action.REPAIR, reason="dead",
    cause=Cause.KILLED, seconds=2.0, took=1.5, error="it ended again",
)  # fmt: skip


class Collector:
    """What came by OTLP over HTTP, from where the library sends it."""

    def __init__(self) -> None:
        self.request = ExportTraceServiceRequest()

    @property
    def spans(self) -> list[Span]:
        return [span for r in self.request.resource_spans for scope in r.scope_spans for span in scope.spans]

    @property
    def resource(self) -> dict[str, str]:
        [found] = self.request.resource_spans
        return said(found.resource)


def said(of: Span | Resource) -> dict[str, str]:
    """The attributes that are texts."""
    return {a.key: a.value.string_value for a in of.attributes if a.value.HasField("string_value")}


def collected(monkeypatch: pytest.MonkeyPatch, *events: WatchEvent, **environ: str) -> Collector:
    """What a real collector gets of these events; nothing was said about it."""
    made = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.request.MergeFromString(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    told: list[str] = []
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}", **environ}
        for name, there in environ.items():
            monkeypatch.setenv(name, there)  # the library reads its own
        traces = traces_of(environ, stack="research", version="1", told=told.append)
        assert traces is not None
        for event in events:
            traces(event)
        traces.close()
        server.shutdown()
        thread.join()
    assert told == []
    return made


def test_a_collector_gets_a_span_for_each_look_and_correction(monkeypatch: pytest.MonkeyPatch) -> None:
    found = collected(monkeypatch, LOOK, DONE)
    lasted = {span.name: (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 for span in found.spans}
    assert {name: round(seconds, 2) for name, seconds in lasted.items()} == {"look": 0.25, "correct": 1.5}
    assert found.resource["service.name"] == "reconciler"
    assert found.resource["reconciler.stack"] == "research"


def test_a_correction_belongs_to_the_look_that_it_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look begins a trace, so that one shows what one round did."""
    first, one, second, other = collected(monkeypatch, LOOK, DONE, LOOK, DONE).spans
    assert [span.parent_span_id for span in (first, second)] == [b"", b""]
    assert (one.parent_span_id, other.parent_span_id) == (first.span_id, second.span_id)
    assert (one.trace_id, other.trace_id) == (first.trace_id, second.trace_id)
    assert first.trace_id != second.trace_id


def test_a_correction_names_the_sandbox_and_what_was_done_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    [span] = collected(monkeypatch, DONE).spans
    assert said(span) == {
        "reconciler.address": "web", "reconciler.backend": "local", "reconciler.sandbox_id": "w",
        "reconciler.action": "repair", "reconciler.reason": "dead", "reconciler.cause": "killed",
    }  # fmt: skip


def test_what_failed_is_an_error_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    blind = replace(LOOK, failures={"far": "connection refused"})
    spans = collected(monkeypatch, LOOK, blind, DONE, replace(DONE, error="")).spans
    assert [(span.name, span.status.code, span.status.message) for span in spans] == [
        ("look", Status.STATUS_CODE_UNSET, ""),
        ("look", Status.STATUS_CODE_ERROR, "could not be seen: far"),
        ("correct", Status.STATUS_CODE_ERROR, "it ended again"),
        ("correct", Status.STATUS_CODE_UNSET, ""),
    ]


def test_the_name_that_the_environment_gives_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert collected(monkeypatch, LOOK, OTEL_SERVICE_NAME="fleet").resource["service.name"] == "fleet"


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
