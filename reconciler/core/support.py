"""What a backend cannot do is said, never hidden: each declared field held against its capabilities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import Desired, DesiredSandbox, ProbeKind
from reconciler.model.diagnostic import Diagnostic, Severity


def support_diagnostics(desired: Desired, capabilities: Mapping[str, Capabilities]) -> tuple[Diagnostic, ...]:
    """Errors for refused fields and notes for noted ones, each once per place in the YAML, sorted by place.

    Backends missing from `capabilities` are passed over: they could not be loaded, which is said elsewhere.
    """
    found: dict[tuple[object, ...], Diagnostic] = {}
    seen: set[tuple[int, str]] = set()
    for wanted in desired.sandboxes.values():
        able = capabilities.get(wanted.backend)
        if able is None or (id(wanted.spec), wanted.backend) in seen:
            continue
        seen.add((id(wanted.spec), wanted.backend))
        kind = desired.backends[wanted.backend].type if wanted.backend in desired.backends else wanted.backend
        for diagnostic in _of_sandbox(wanted, able, kind):
            found.setdefault((diagnostic.position, diagnostic.code, diagnostic.summary), diagnostic)
    return tuple(
        sorted(found.values(), key=lambda d: (str(d.severity), d.position is None, d.position, d.summary))
    )


def _of_sandbox(wanted: DesiredSandbox, able: Capabilities, kind: str) -> Iterator[Diagnostic]:
    for path, value in wanted.spec.canonical().items():
        support = able.support(path, value)
        if support is Support.REFUSED and not wanted.spec.unsupported_warn:
            yield Diagnostic(
                severity=Severity.ERROR,
                code="unsupported",
                summary=f"backend {wanted.backend!r} ({kind}) cannot hold {_field(path, value)} of {wanted.group}",
                fix="remove it, use another backend, or set `unsupported: warn` on the sandbox to go without it",
                position=wanted.at(path),
            )
        elif support is not Support.ENFORCED:
            yield Diagnostic(
                severity=Severity.NOTE if support is Support.NOTED else Severity.WARNING,
                code="not-enforced",
                summary=f"backend {wanted.backend!r} ({kind}) goes without {_field(path, value)} of {wanted.group}",
                position=wanted.at(path),
            )
    probe = wanted.spec.readiness.kind
    if probe is not ProbeKind.NONE and str(probe) not in able.probes:
        yield Diagnostic(
            severity=Severity.ERROR,
            code="unsupported",
            summary=f"backend {wanted.backend!r} ({kind}) cannot probe readiness of {wanted.group} by {probe}",
            fix=f"use one of: {', '.join(sorted(able.probes))}",
            position=wanted.at("readiness"),
        )


def _field(path: str, value: object) -> str:
    """Secrets' digests are nobody's business; short plain values help."""
    if path.startswith(("secrets.", "environment.")):
        return f"`{path}`"
    return f"`{path}: {value}`" if len(str(value)) <= 40 else f"`{path}`"
