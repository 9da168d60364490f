"""What the server says when it refuses: `Refusal`, and the Status object that carries it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.support.kubernetes.resources import Resource

Json = dict[str, Any]

REASONS = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed",
    406: "NotAcceptable", 409: "Conflict", 410: "Expired", 413: "RequestEntityTooLarge", 415: "UnsupportedMediaType",
    422: "Invalid", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip


@dataclass
class Refusal(Exception):
    """An answer that is an error. `headers` go with it."""

    code: int
    message: str
    reason: str = ""
    details: Json = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    continue_token: str = ""  # where an expired list may go on

    def __str__(self) -> str:
        return f"{self.code} {self.message}"

    def status(self) -> Json:
        body: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.continue_token} if self.continue_token else {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason or REASONS.get(self.code, "Unknown"),
        }
        if self.details:
            body["details"] = self.details
        return {**body, "code": self.code}


def _details(resource: Resource, name: str, **more: object) -> Json:
    return {
        "name": name,
        **({"group": resource.group} if resource.group else {}),
        "kind": resource.plural,
        **more,
    }


def not_found(resource: Resource, name: str) -> Refusal:
    return Refusal(404, f'{resource.key} "{name}" not found', details=_details(resource, name))


def no_such_path() -> Refusal:
    return Refusal(404, "the server could not find the requested resource")


def already_exists(resource: Resource, name: str) -> Refusal:
    return Refusal(
        409, f'{resource.key} "{name}" already exists', "AlreadyExists", details=_details(resource, name)
    )


def conflict(resource: Resource, name: str, why: str = "") -> Refusal:
    why = why or (
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    message = f'Operation cannot be fulfilled on {resource.key} "{name}": {why}'
    return Refusal(409, message, details=_details(resource, name))


def invalid(resource: Resource, name: str, causes: list[tuple[str, str, str]]) -> Refusal:
    """`causes` are (field, reason, message)."""
    texts = [f"{path}: {message}" for path, _, message in causes]
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    entries = [{"reason": reason, "message": message, "field": path} for path, reason, message in causes]
    details = {**_details(resource, name), "kind": resource.kind, "causes": entries}
    return Refusal(422, f'{kind} "{name}" is invalid: {text}', details=details)


def forbidden(resource: Resource, name: str, why: str) -> Refusal:
    return Refusal(
        403,
        f'{resource.key} "{name}" is forbidden: {why}' if name else f"{resource.key} is forbidden: {why}",
        details=_details(resource, name) if name else {"kind": resource.plural},
    )


def expired(message: str = "The provided continue parameter is too old") -> Refusal:
    return Refusal(410, message)


def bad_request(message: str) -> Refusal:
    return Refusal(400, message)
