"""What a backend cannot do is said, never hidden: each declared field held against its capabilities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import Desired, DesiredSandbox, FlatSpec, NetworkMode, ProbeKind, Scalar
from reconciler.model.diagnostic import Diagnostic, Severity


def support_diagnostics(desired: Desired, capabilities: Mapping[str, Capabilities]) -> tuple[Diagnostic, ...]:
    """Errors for refused fields and notes for noted ones, each once per place in the YAML, sorted by place.

    Backends missing from `capabilities` are passed over: they could not be loaded, which is said elsewhere.
    """
    found: dict[tuple[object, ...], Diagnostic] = {}
    tables: dict[str, _Table] = {}
    seen: set[tuple[int, str, bool]] = set()
    for wanted in desired.sandboxes.values():
        able = capabilities.get(wanted.backend)
        same = (id(wanted.spec), wanted.backend, wanted.lifecycle.create_first)
        if able is None or same in seen:
            continue
        seen.add(same)
        kind = desired.backends[wanted.backend].type if wanted.backend in desired.backends else wanted.backend
        table = tables.setdefault(wanted.backend, _Table(able))
        if table.holds_all_of(wanted):
            continue
        for diagnostic in _of_sandbox(wanted, able, table, kind):
            found.setdefault((diagnostic.position, diagnostic.code, diagnostic.summary), diagnostic)
    return tuple(
        sorted(found.values(), key=lambda d: (str(d.severity), d.position is None, d.position, d.summary))
    )


class _Table:
    """A backend's capabilities, looked up once for all sandboxes that have the same field, and the same value in it where
    that matters."""

    def __init__(self, able: Capabilities) -> None:
        self._able = able
        self._by_path: dict[str, tuple[Support, str] | None] = {}  # None: it depends on the value
        self._all_enforced: set[str] = set()  # whatever their value
        self._by_value: dict[tuple[str, type, Scalar], tuple[Support, str]] = {}

    def holds_all_of(self, wanted: DesiredSandbox) -> bool:
        """Whether there is nothing to say, seen at a glance: of many that are alike, nearly all are told apart so."""
        spec, able = wanted.spec, self._able
        return (
            self._all_enforced.issuperset(spec.canonical())
            and (spec.readiness.kind is ProbeKind.NONE or spec.readiness.kind in able.probes)
            and not (able.exposes_environment and spec.secrets)
            and not (able.seals_isolated and spec.network.mode is NetworkMode.ISOLATED)
            and not wanted.lifecycle.create_first
        )

    def not_enforced(self, flat: FlatSpec) -> Iterator[tuple[str, Scalar, Support, str]]:
        """The fields that are not, with their values, and how and why not."""
        for path, value in flat.items():
            support, reason = self._of(path, value)
            if support is not Support.ENFORCED:
                yield path, value, support, reason

    def _of(self, path: str, value: Scalar) -> tuple[Support, str]:
        if path not in self._by_path:
            asks = self._able.asks_value(path)
            known = self._by_path[path] = None if asks else self._look_up(path, value)
            if known is not None and known[0] is Support.ENFORCED:
                self._all_enforced.add(path)
        else:
            known = self._by_path[path]
        if known is not None:
            return known
        key = (path, type(value), value)  # True is 1 and 1.0 is 1 for a dict, but not for a table
        if key not in self._by_value:
            self._by_value[key] = self._look_up(path, value)
        return self._by_value[key]

    def _look_up(self, path: str, value: Scalar) -> tuple[Support, str]:
        return self._able.support(path, value), self._able.reason(path, value)


def _of_sandbox(wanted: DesiredSandbox, able: Capabilities, table: _Table, kind: str) -> Iterator[Diagnostic]:
    for path, value, support, reason in table.not_enforced(wanted.spec.canonical()):
        because = f": {reason}" if reason else ""
        if support is Support.REFUSED and not wanted.spec.unsupported_warn:
            yield Diagnostic(
                severity=Severity.ERROR,
                code="unsupported",
                summary=f"backend {wanted.backend!r} ({kind}) cannot hold {_field(path, value)} of {wanted.group}{because}",
                fix="remove it, use another backend, or set `unsupported: warn` on the sandbox to go without it",
                position=wanted.at(path),
            )
        else:
            yield Diagnostic(
                severity=Severity.NOTE if support is Support.NOTED else Severity.WARNING,
                code="not-enforced",
                summary=f"backend {wanted.backend!r} ({kind}) goes without {_field(path, value)} of {wanted.group}{because}",
                position=wanted.at(path),
            )
    if able.exposes_environment:
        yield from _exposed(wanted, kind)
    probe = wanted.spec.readiness.kind
    if probe is not ProbeKind.NONE and str(probe) not in able.probes:
        yield Diagnostic(
            severity=Severity.ERROR,
            code="unsupported",
            summary=f"backend {wanted.backend!r} ({kind}) cannot probe readiness of {wanted.group} by {probe}",
            fix=f"use one of: {', '.join(sorted(able.probes))}",
            position=wanted.at("readiness"),
        )
    if able.seals_isolated and wanted.spec.network.mode is NetworkMode.ISOLATED:
        yield from _sealed(wanted, kind)
    if wanted.lifecycle.create_first:
        yield from _of_two_at_once(wanted, able, kind)


def _sealed(wanted: DesiredSandbox, kind: str) -> Iterator[Diagnostic]:
    """What would have to come in through a network that is not there."""
    isolated = (("isolated here", wanted.at("network.mode")),)
    told = (
        f"{wanted.group} is isolated: on {wanted.backend!r} ({kind}) nothing reaches it through the network"
    )
    for port in wanted.spec.ports:
        yield Diagnostic(
            severity=Severity.ERROR,
            code="unsupported",
            summary=f"{told}, so its port `{port.name}` leads nowhere",
            fix="remove the port, or name an internal network of the engine: `network: {name: …}`",
            position=wanted.at(f"ports.{port.name}.container"),
            related=isolated,
        )
    probe = wanted.spec.readiness.kind
    if probe in (ProbeKind.HTTP, ProbeKind.TCP):
        yield Diagnostic(
            severity=Severity.ERROR,
            code="unsupported",
            summary=f"{told}, so its readiness probe by {probe} cannot succeed",
            fix="write `readiness: {exec: [COMMAND, …]}`, or `readiness: none`",
            position=wanted.at("readiness"),
            related=isolated,
        )


def _exposed(wanted: DesiredSandbox, kind: str) -> Iterator[Diagnostic]:
    """Secrets that the user chose to have in the environment, where that can be read from outside."""
    for name, ref in wanted.spec.secrets.items():
        if ref.delivery == "environment":
            yield Diagnostic(
                severity=Severity.WARNING,
                code="secret-exposed",
                summary=f"secret {name} of {wanted.group} goes into the environment: whoever can inspect the sandbox "
                f"on {wanted.backend!r} ({kind}) can read it",
                fix=f"remove `as: environment`, and read the file that `{name}_FILE` names",
                position=wanted.at(f"secrets.{name}.as"),
            )


def _of_two_at_once(wanted: DesiredSandbox, able: Capabilities, kind: str) -> Iterator[Diagnostic]:
    """What stands in the way of having the old and the new one for a while. No `unsupported: warn` goes without it."""
    if not able.owns:
        yield Diagnostic(
            severity=Severity.ERROR,
            code="unsupported",
            summary=f"backend {wanted.backend!r} ({kind}) cannot replace {wanted.group} with the new one first: it "
            "cannot label what it makes, so after an interruption nobody would know the old one",
            fix="write `replace: destroy_first`, or use another backend",
            position=wanted.at("lifecycle.replace"),
        )
    for port in wanted.spec.ports:
        if port.host is not None:
            yield Diagnostic(
                severity=Severity.ERROR,
                code="unsupported",
                summary=f"{wanted.group} cannot be replaced with the new one first: both would need port {port.host} "
                f"of the host (`{port.name}`) at the same time",
                fix="write `host: auto` for that port, or `replace: destroy_first`",
                position=wanted.at(f"ports.{port.name}.host"),
                related=(("asked for here", wanted.at("lifecycle.replace")),),
            )


def _field(path: str, value: object) -> str:
    """Secrets' digests are nobody's business; short plain values help."""
    if path.startswith(("secrets.", "environment.")):
        return f"`{path}`"
    return f"`{path}: {value}`" if len(str(value)) <= 40 else f"`{path}`"
