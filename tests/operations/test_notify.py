"""Webhooks against a real HTTP server: each incident once when it begins and once when it is over, whatever the receiver does."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jsonschema_rs
import pytest
from msgspec.structs import replace

from reconciler.errors import ReconcilerError
from reconciler.model.desired import Secret
from reconciler.model.drift import Cause
from reconciler.model.watching import Incident, IncidentClosed, IncidentKind, IncidentOpened, Looked
from reconciler.operations.notify import Notifier, Pace
from reconciler.operations.webhook import Format, Webhook
from tests.operations.receiver import Receiver, receiver

SCHEMA = Path(__file__).parents[2] / "schemas" / "notification.v1.schema.json"
QUICK = Pace(timeout=0.5, first=0.01, longest=0.05, keep=5.0, room=5)


def incident(subject: str = "web[0]", at: float = 1000.0, summary: str = "it was killed") -> Incident:
    return Incident(
        kind=IncidentKind.DRIFT, subject=subject, summary=summary, at=at, cause=Cause.KILLED, fix="look"
    )


def opened(subject: str = "web[0]", **more: str) -> IncidentOpened:
    return IncidentOpened(incident=incident(subject, **more))  # type: ignore[arg-type]


def closed(subject: str = "web[0]") -> IncidentClosed:
    return IncidentClosed(incident=incident(subject), at=1060.0, how="put back")


class Posted:
    """A notifier, the lines it told, and the outcomes it counted."""

    def __init__(self, *urls: str, form: Format = Format.JSON, pace: Pace = QUICK) -> None:
        self.lines: list[str] = []
        self.outcomes: list[str] = []
        hooks = [Webhook(url=Secret(url), format=form) for url in urls]
        self.notifier = Notifier(
            hooks,
            stack="research",
            version="1",
            told=self.lines.append,
            counted=self.outcomes.append,
            pace=pace,
        )

    def until(self, count: int) -> list[str]:
        deadline = time.monotonic() + 20
        while len(self.outcomes) < count:
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.005)
        return self.outcomes


@contextmanager
def posting(*urls: str, form: Format = Format.JSON, pace: Pace = QUICK) -> Iterator[Posted]:
    made = Posted(*urls, form=form, pace=pace)
    try:
        yield made
    finally:
        made.notifier.close(2.0)


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def test_the_beginning_and_the_end_are_posted_once_each_by_the_schema(there: Receiver) -> None:
    with posting(there.url) as posted:
        for event in (opened(), closed()):
            posted.notifier(event)
        posted.notifier(Looked(at=1.0, seconds=1.0, desired=1, observed=1, ready=1, drifted=0))
        assert posted.until(2) == ["delivered", "delivered"]
    bodies = [taken.body for taken in there.asked]
    validator = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text()))
    for body in bodies:
        validator.validate(body)
    assert [body["type"] for body in bodies] == ["incident_opened", "incident_closed"]
    assert bodies[0]["incident"] == bodies[1]["incident"]
    assert bodies[1]["seconds"] == 60.0


@pytest.mark.parametrize("answers", [[500], [503, 502], [429], [408]])
def test_what_may_pass_is_tried_again_as_the_same_delivery(there: Receiver, answers: list[int]) -> None:
    there.answers = list(answers)
    with posting(there.url) as posted:
        posted.notifier(opened())
        assert posted.until(1) == ["delivered"]
    ids = {taken.headers["X-Reconciler-Delivery"] for taken in there.asked}
    assert len(there.asked) == len(answers) + 1
    assert len(ids) == 1
    assert "it takes notifications again" in posted.lines[-1]


PACE = Pace(first=1.0, longest=60.0, chance=lambda: 0.0)


@pytest.mark.parametrize(
    ("tries", "asked", "chance", "seconds"),
    [
        pytest.param(1, None, 0.0, 1.0, id="the first pause"),
        pytest.param(2, None, 0.0, 2.0, id="is doubled"),
        pytest.param(5, None, 0.0, 16.0, id="again and again"),
        pytest.param(7, None, 0.0, 60.0, id="up to the longest"),
        pytest.param(5000, None, 0.0, 60.0, id="however often"),
        pytest.param(5, None, 1.0, 8.0, id="less up to a half, so that many do not come back at once"),
        pytest.param(1, 30.0, 0.0, 30.0, id="a receiver may ask for more"),
        pytest.param(1, 3600.0, 0.0, 60.0, id="and not for more than the longest"),
        pytest.param(5, 0.0, 0.0, 16.0, id="nor for less"),
    ],
)
def test_pauses_grow(tries: int, asked: float | None, chance: float, seconds: float) -> None:
    assert replace(PACE, chance=lambda: chance).pause(tries, asked) == seconds


@pytest.mark.parametrize("named", ["3600", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_a_receiver_says_how_long_to_wait_within_bounds(there: Receiver, named: str) -> None:
    """Here no longer than a twentieth of a second, or the test would not see the end of it."""
    there.answers, there.more = [429], {"Retry-After": named}
    with posting(there.url) as posted:
        posted.notifier(opened())
        assert posted.until(1) == ["delivered"]
    assert len(there.asked) == 2


def test_what_the_receiver_asks_for_is_waited_for(there: Receiver) -> None:
    """What it may ask for is longer than the test lasts, so only the end of the watch brings the second try."""
    there.answers, there.more = [429], {"Retry-After": "3600"}
    with posting(there.url, pace=replace(QUICK, longest=3600.0, keep=7200.0)) as posted:
        posted.notifier(opened())
        there.took(1)
        assert posted.outcomes == []
    assert posted.outcomes == ["delivered"]
    assert len(there.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 410, 302])
def test_what_is_refused_is_not_tried_again_and_the_next_one_is(there: Receiver, status: int) -> None:
    there.answers, there.more = [status], {"Location": there.url}
    with posting(there.url) as posted:
        posted.notifier(opened())
        posted.notifier(opened("db"))
        assert posted.until(2) == ["refused", "delivered"]
    assert len(there.asked) == 2


def test_what_began_and_ended_while_the_receiver_was_away_is_delivered_in_order() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with posting(f"http://127.0.0.1:{port}/hook/x") as posted:
        posted.notifier(opened())
        posted.notifier(closed())
        time.sleep(0.1)
        with receiver(port) as late:
            assert posted.until(2) == ["delivered", "delivered"]
            assert [taken.body["type"] for taken in late.asked] == ["incident_opened", "incident_closed"]
    assert len([line for line in posted.lines if "is tried again" in line]) == 1


def test_two_receivers_do_not_wait_for_each_other(there: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dead = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with posting(dead, there.url) as posted:
            posted.notifier(opened())
            there.took(1)


def test_nobody_waits_for_a_receiver_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        made = Posted(f"http://127.0.0.1:{silent.getsockname()[1]}/", pace=replace(QUICK, timeout=3600.0))
        for number in range(20):
            made.notifier(opened(f"web[{number}]"))
        assert made.outcomes.count("dropped") >= 20 - QUICK.room - 1, "all are put while the first try lasts"
        made.notifier.close(0.3)
    assert any("are waiting already" in line for line in made.lines)


def test_what_is_too_old_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with posting(
        f"http://127.0.0.1:{port}/", pace=Pace(timeout=0.2, first=0.01, longest=0.02, keep=0.1)
    ) as posted:
        posted.notifier(opened())
        assert posted.until(1) == ["expired"]


def test_the_end_sends_what_waits(there: Receiver) -> None:
    hold = threading.Event()
    there.before = lambda: hold.wait(5) and None
    made = Posted(there.url)
    for number in range(3):
        made.notifier(opened(f"web[{number}]"))
    threading.Timer(0.05, hold.set).start()
    made.notifier.close(5.0)
    assert made.outcomes == ["delivered"] * 3


def test_no_line_shows_more_of_a_url_than_its_host(there: Receiver) -> None:
    there.answers = [500, 404]
    with posting(there.url.replace("http://", "http://ann:hush@")) as posted:
        posted.notifier(opened())
        posted.until(1)
    assert there.asked[0].headers["Authorization"].startswith("Basic ")
    told = "\n".join(posted.lines)
    assert "127.0.0.1" in told
    assert "s3cret" not in told
    assert "hush" not in told


@pytest.mark.parametrize("url", ["", "ftp://x/hush", "https://", "http://hush:0/", "http://h/hush b", "hush"])
def test_what_is_no_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ReconcilerError) as raised:
        Webhook(url=Secret(url))
    assert "hush" not in f"{raised.value.message} {raised.value.hint}"


class TestSlack:
    def posted(self, there: Receiver, *events: IncidentOpened | IncidentClosed) -> list[dict[str, object]]:
        with posting(there.url, form=Format.SLACK) as posted:
            for event in events:
                posted.notifier(event)
            posted.until(len(events))
        return [taken.body for taken in there.asked]

    def test_it_is_a_message_with_text_and_blocks(self, there: Receiver) -> None:
        begun, over = self.posted(there, opened(), closed())
        assert begun["text"] == "🔴 `research`: `it was killed`\n`look`"
        assert over["text"] == "✅ `research`: `it was killed`\nover after 60 s\n`put back`"
        assert [block["type"] for block in begun["blocks"]] == ["section", "section", "context"]  # type: ignore[attr-defined]

    def test_nothing_in_it_mentions_links_or_marks_up(self, there: Receiver) -> None:
        [body] = self.posted(there, opened(summary="<!channel> `x` <http://evil|click> \x1b[31m"))
        text = json.dumps(body["text"])
        assert "<!channel>" not in text
        assert "<http" not in text
        assert "\\u001b" not in text


def test_others_words_are_harmless_and_short(there: Receiver) -> None:
    with posting(there.url) as posted:
        posted.notifier(opened(summary="\x1b[2J" + "x" * 10_000))
        posted.until(1)
    summary = there.asked[0].body["incident"]["summary"]
    assert "\x1b" not in summary
    assert len(summary) < 3000
