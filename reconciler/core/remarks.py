"""What a plan remarks about an address beside its step. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.model.desired import DesiredSandbox
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.evidence import evidenced
from reconciler.model.observed import ObservedSandbox


def elsewhere(wanted: DesiredSandbox) -> Diagnostic:
    return Diagnostic(
        severity=Severity.WARNING,
        code="replace-elsewhere",
        summary=f"{wanted.address} exists elsewhere, so `--replace` leaves it as it is",
        fix="have it replaced where it was made",
        position=wanted.position,
    )


def unknown(wanted: DesiredSandbox, current: ObservedSandbox) -> Diagnostic:
    untold = evidenced("the backend cannot tell how it is", current.detail)
    return Diagnostic(
        severity=Severity.WARNING,
        code="phase-unknown",
        summary=f"{wanted.address}: {untold}; it is left alone",
        fix="look at it with `reconciler status`, then plan again",
        position=wanted.position,
    )


def kept(wanted: DesiredSandbox, reasons: Sequence[str]) -> Diagnostic:
    """It is protected, though `reasons` ask for a replacement."""
    return Diagnostic(
        severity=Severity.WARNING,
        code="protected-kept",
        summary=f"{wanted.address} would be replaced ({' and '.join(reasons)}), and is protected, so it is kept",
        fix="set `prevent_destroy: false` to have it replaced",
        position=wanted.at("lifecycle"),
    )
