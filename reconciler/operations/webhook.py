"""One webhook: what its receiver reads, and one try to send it. Never tries twice, and follows no redirect.

Texts in a chat are others' words: in Slack's form they stand where neither mentions nor links nor markup are read.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from urllib.parse import SplitResult, unquote, urlsplit

from msgspec import Struct

from reconciler.errors import ReconcilerError
from reconciler.model.desired import Secret
from reconciler.model.harmless import harmless
from reconciler.model.watching import IncidentClosed, IncidentOpened
from reconciler.operations.documents import Document, incident_document, incident_id, text_of, time_of
from reconciler.transport.connection import connect_within, connection_to

_FORMAT = "1.0"
_PHRASE = re.compile(
    r"[a-z][a-z_ ]{0,60}"
)  # as Slack says what is wrong: "no_service"; a token does not look like this
_WHOLE_SECONDS = re.compile(r"\d{1,9}")
_PASSING = (408, 425, 429)

Told = IncidentOpened | IncidentClosed


class Format(StrEnum):
    """JSON: `schemas/notification.v1.schema.json`. SLACK: Slack's incoming webhooks, and Mattermost's."""

    JSON = "json"
    SLACK = "slack"


class Webhook(Struct, frozen=True, kw_only=True):
    """`url` often holds a token, so all of it is a secret but the host. Raises ReconcilerError for what is no http URL."""

    url: Secret
    format: Format = Format.JSON

    def __post_init__(self) -> None:
        try:
            parts = self._parts()
            well = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            well = False
        if not well or re.search(r"[^!-~]", self.url.reveal()):
            raise ReconcilerError(
                "the address of a webhook is no http URL",
                hint="write it as https://host/path; it is not shown here because it may hold a token",
            )

    @property
    def host(self) -> str:
        """All of it that may be told."""
        parts = self._parts()
        return harmless(parts.hostname or "") + (f":{parts.port}" if parts.port else "")

    @property
    def address(self) -> str:
        """The URL without the name and password in it."""
        parts = self._parts()
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    @property
    def authorization(self) -> Mapping[str, str]:
        parts = self._parts()
        if parts.username is None:
            return {}
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    def _parts(self) -> SplitResult:
        return urlsplit(self.url.reveal())


class Notification(Struct, frozen=True, kw_only=True):
    """`id` is the same in every try and for every receiver. `put` by the monotonic clock."""

    id: str
    event: Told
    put: float


class Reply(Struct, frozen=True, kw_only=True):
    """What came of one try. `status` 0 when nothing came back; `said` is for the log, "" when it worked."""

    status: int
    said: str = ""
    retry_after: float | None = None

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def passing(self) -> bool:
        """Whether another try may work."""
        return self.status < 200 or self.status >= 500 or self.status in _PASSING


def notification_id(stack: str, event: Told) -> str:
    kind = "opened" if isinstance(event, IncidentOpened) else "closed"
    return f"{incident_id(stack, event.incident)}-{kind}"


def send(
    webhook: Webhook, notification: Notification, *, stack: str, version: str, timeout: float, now: float
) -> Reply:
    """Try once, in `timeout` seconds. `now` in seconds since the epoch, for receivers that name a time."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"reconciler/{version}",
        "X-Reconciler-Delivery": notification.id,
        "Idempotency-Key": notification.id,
        "Connection": "close",
        **webhook.authorization,
    }
    body = json.dumps(_body(webhook.format, stack, notification)).encode()
    try:
        return _post(webhook.address, body, headers, timeout, now)
    except TimeoutError:
        return Reply(status=0, said=f"it did not answer within {timeout:.3g} s")
    except http.client.HTTPException as error:
        return Reply(status=0, said=f"it answers with something that is no HTTP ({type(error).__name__})")
    except OSError as error:
        return Reply(status=0, said=harmless(f"it cannot be reached: {error.strerror or error}")[:200])


def _post(url: str, body: bytes, headers: Mapping[str, str], timeout: float, now: float) -> Reply:
    connection, target = connection_to(url, timeout)
    try:
        connect_within(connection, timeout)
        connection.request("POST", target, body=body, headers=dict(headers))
        with connection.getresponse() as response:
            if 200 <= response.status < 300:
                return Reply(status=response.status)
            phrase = response.read(64).decode("ascii", errors="replace").strip()
            said = f"it answers {response.status}" + (f" ({phrase})" if _PHRASE.fullmatch(phrase) else "")
            asked = _retry_after(response.getheader("Retry-After", ""), now)
            return Reply(status=response.status, said=said, retry_after=asked)
    finally:
        connection.close()


def _retry_after(text: str, now: float) -> float | None:
    """Seconds that we are asked to wait, given as a number or as a date; None when we are not."""
    text = text.strip()
    if _WHOLE_SECONDS.fullmatch(text):
        return float(text)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        at = parsedate_to_datetime(text)
        return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now)
    return None


# -- what is read there


def _body(form: Format, stack: str, notification: Notification) -> Document:
    match form:
        case Format.JSON:
            return json_document(stack, notification)
        case Format.SLACK:
            return slack_document(stack, notification.event)


def json_document(stack: str, notification: Notification) -> Document:
    event = notification.event
    opened = isinstance(event, IncidentOpened)
    document: dict[str, object] = {
        "format": _FORMAT,
        "id": notification.id,
        "type": "incident_opened" if opened else "incident_closed",
        "at": time_of(event.incident.at if isinstance(event, IncidentOpened) else event.at),
        "stack": stack,
        "incident": incident_document(stack, event.incident),
    }
    if isinstance(event, IncidentClosed):
        document |= {"how": text_of(event.how), "seconds": round(event.seconds, 3)}
    return document


def slack_document(stack: str, event: Told) -> Document:
    """`text` for Mattermost and for notices on a phone, with others' words as code; `blocks` for Slack, as plain text."""
    incident = event.incident
    summary, fix = text_of(incident.summary), text_of(incident.fix)
    if isinstance(event, IncidentClosed):
        mark, end, more = "✅", f"over after {_spoken(event.seconds)}", text_of(event.how)
    else:
        mark, end, more = "🔴", "", fix
    parts = [f"{mark} {_code(stack)}: {_code(summary)}", end, _code(more) if more else ""]
    notes = [f"stack {stack}", str(incident.kind), time_of(incident.at)]
    blocks = [_section(f"{mark} {summary}" + (f" ({end})" if end else "")), _context(" · ".join(notes))]
    if more:
        blocks.insert(1, _section(more))
    return {"text": "\n".join(part for part in parts if part), "blocks": blocks}


def _section(text: str) -> Document:
    return {"type": "section", "text": {"type": "plain_text", "text": text, "emoji": False}}


def _context(text: str) -> Document:
    return {"type": "context", "elements": [{"type": "plain_text", "text": text, "emoji": False}]}


def _code(text: str) -> str:
    """Others' words between backticks, where nothing in them is a mention, a link or markup."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("`", "'")
    return f"`{safe}`"


def _spoken(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
