"""Parts of events as JSON that others read: in the audit log and in notifications. Texts are harmless and short."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime

from reconciler.model.harmless import harmless
from reconciler.model.watching import Corrected, Incident

Document = Mapping[str, object]

_LONGEST = 2000  # characters of one text


def line_of(document: Document) -> bytes:
    """The document as one line of ASCII."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def text_of(text: str) -> str:
    """What others wrote, written out where it could do harm, and cut off where it has no end."""
    return harmless(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")


def time_of(at: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    try:
        moment = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):  # a clock far off is no reason to lose what happened
        moment = datetime.fromtimestamp(0, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def incident_id(stack: str, incident: Incident) -> str:
    """The same for the opening and the end of one incident, another for the next of the same kind and subject."""
    parts = json.dumps([stack, incident.key, incident.at])
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def incident_document(stack: str, incident: Incident) -> Document:
    return {
        "id": incident_id(stack, incident),
        "kind": str(incident.kind),
        "subject": text_of(incident.subject),
        "summary": text_of(incident.summary),
        "cause": None if incident.cause is None else str(incident.cause),
        "fix": text_of(incident.fix),
        "opened_at": time_of(incident.at),
    }


def correction_document(correction: Corrected) -> Document:
    return {
        "address": text_of(correction.address),
        "backend": text_of(correction.backend),
        "sandbox_id": text_of(correction.sandbox_id),
        "action": str(correction.action),
        "reason": text_of(correction.reason),
        "cause": str(correction.cause),
        "outcome": "done" if correction.ok else "failed",
        "error": text_of(correction.error),
        "attempt": correction.attempt,
        "seconds": round(correction.seconds, 3),
        "took": round(correction.took, 3),
        "retry_in": None if correction.retry_in is None else round(correction.retry_in, 3),
    }
