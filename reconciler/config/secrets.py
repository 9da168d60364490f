"""Secrets: from `secrets:` entries to references, and from references to values with keyed digests.

A value lives in `Secret` alone. Must never put a value, a command's output or a file's content into a message.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from reconciler.config.diagnostics import Problems, at, quote
from reconciler.config.interpolate import Expression, Failed, Interpolator, parse
from reconciler.config.nodes import Node
from reconciler.config.values import Built, Surroundings, Wrong, absolute_path, text, unreadable, words
from reconciler.errors import ConfigError
from reconciler.model.desired import Address, Desired, DesiredSandbox, SandboxSpec, Secret, SecretRef

MAX_BYTES = 1024 * 1024
_Key = tuple[str, tuple[str, ...]]


# --- entries to references -------------------------------------------------------------------------------------


def build_secrets(node: Node, fill: Interpolator, around: Surroundings) -> Built:
    """The `secrets` of a block that is not filled in yet: `value` alone may take sensitive variables."""
    refs = {}
    where = {"secrets": at(node)}
    for name, entry in node.named().items():
        where[f"secrets.{name}"] = at(entry)
        try:
            ref = _reference(name, entry, fill, around)
        except Failed:
            fill.failed = True
            continue
        refs[name] = ref
        delivery = entry.get("as")
        if delivery is not None:
            where[f"secrets.{name}.as"] = at(delivery)
    return Built({"secrets": refs}, where)


def _reference(name: str, entry: Node, fill: Interpolator, around: Surroundings) -> SecretRef:
    delivery = _filled(entry, "as", fill)
    if entry.damaged:
        raise Failed
    how = "file" if delivery is None else text(delivery)
    if delivery is not None and how not in ("file", "environment"):
        raise unreadable(delivery, "`file` or `environment`")
    value = entry.get("value")
    if value is not None:
        secret = _value(name, value, fill)
        return SecretRef(source=_described(value), kind="value", target=(), delivery=how, value=secret)
    if (node := _filled(entry, "env", fill)) is not None:
        return SecretRef(source=f"env {text(node)}", kind="env", target=(text(node),), delivery=how)
    if (node := _filled(entry, "file", fill)) is not None:
        path = absolute_path(node, around.environ)
        return SecretRef(source=f"file {text(node)}", kind="file", target=(path,), delivery=how)
    node = _filled(entry, "command", fill)
    argv = () if node is None else words(node)
    if not argv or not argv[0]:
        raise Wrong(
            node or entry,
            "wrong-value",
            "the secret's command is empty",
            "write `command: [PROGRAM, ARGUMENT, …]`",
        )
    return SecretRef(source=f"command {argv[0]}", kind="command", target=argv, delivery=how)


def _filled(entry: Node, key: str, fill: Interpolator) -> Node | None:
    node = entry.get(key)
    if node is None:
        return None
    inner = Interpolator(fill.scope)
    filled = inner.fill(node)
    if inner.failed:
        raise Failed
    return filled


def _value(name: str, node: Node, fill: Interpolator) -> Secret:
    parts = parse(node.text or "")
    expressions = [part for part in parts if isinstance(part, Expression)]
    problems = fill.scope.problems
    if not expressions:
        problems.warning(
            node, "plain-secret", f"the secret {quote(name)} is written in the file in clear",
            'declare a variable with `sensitive: true` and write `value: "${var.NAME}"`, or use `env`, `file` or `command`',
        )  # fmt: skip
    return Secret(fill.text(node, parts, sensitive=True))


def _described(node: Node) -> str:
    names = [part.raw for part in parse(node.text or "") if isinstance(part, Expression)]
    return f"value of {', '.join(names)}" if names else "value in the file"


# --- references to values --------------------------------------------------------------------------------------


def resolve_secrets(
    desired: Desired,
    *,
    key: bytes | None,
    environ: Mapping[str, str],
    run: Callable[[Sequence[str]], str],
) -> Desired:
    """The same with every secret's value read and its keyed digest made; each source is read once.

    `key` is the store's; None, when there is none yet, leaves the digests empty. `run` starts a command and returns
    its standard output; it raises when that fails. Raises ConfigError with a diagnostic for each secret that cannot
    be had.
    """
    reader = _Reader(desired.directory, environ, run)
    problems = Problems()
    problems.file_order(sorted({sandbox.position.file for sandbox in desired.sandboxes.values()}))
    specs: dict[int, SandboxSpec] = {}
    resolved: dict[Address, DesiredSandbox] = {}
    for address, sandbox in desired.sandboxes.items():
        if sandbox.spec.secrets:
            if id(sandbox.spec) not in specs:
                refs = {
                    name: _resolve(name, ref, sandbox, reader, key, problems)
                    for name, ref in sandbox.spec.secrets.items()
                }
                specs[id(sandbox.spec)] = replace(sandbox.spec, secrets=refs)
            resolved[address] = replace(sandbox, spec=specs[id(sandbox.spec)])
        else:
            resolved[address] = sandbox
    problems.raise_if_any()
    return replace(desired, sandboxes=resolved)


def read_reference(
    ref: SecretRef,
    what: str,
    *,
    directory: str,
    environ: Mapping[str, str],
    run: Callable[[Sequence[str]], str],
) -> str:
    """One value that is no sandbox's secret; `what` names it in messages. Raises ConfigError when it cannot be had."""
    try:
        return _Reader(directory, environ, run).read(ref)
    except _Unobtainable as error:
        raise ConfigError(error.summary.replace("the secret THIS", what), hint=error.fix) from None


def digest(key: bytes, name: str, value: str) -> str:
    """What state, plan and comparison see of a secret: it tells same from different, and nothing else."""
    import hashlib
    import hmac

    made = hmac.new(key, name.encode() + b"\0" + value.encode("utf-8", "surrogateescape"), hashlib.sha256)
    return f"hmac-sha256:{made.hexdigest()[:32]}"


def _resolve(
    name: str, ref: SecretRef, sandbox: DesiredSandbox, reader: _Reader, key: bytes | None, problems: Problems
) -> SecretRef:
    try:
        value = reader.read(ref)
        if not value:
            raise _Unobtainable(
                f"the secret {quote(name)} is empty ({ref.source})", "give it a value, or remove the secret"
            )
        if "\x00" in value:
            raise _Unobtainable(
                f"the secret {quote(name)} holds a NUL character ({ref.source})", "secrets are text"
            )
    except _Unobtainable as error:
        problems.general(
            "secret", error.summary.replace("THIS", quote(name)), error.fix, sandbox.at(f"secrets.{name}")
        )
        return ref
    return replace(ref, value=Secret(value), digest="" if key is None else digest(key, name, value))


class _Unobtainable(Exception):
    """A secret cannot be had. THIS in the summary stands for its name."""

    def __init__(self, summary: str, fix: str) -> None:
        super().__init__(summary)
        self.summary = summary
        self.fix = fix


class _Reader:
    """Reads each source once, its failure too."""

    def __init__(
        self, directory: str, environ: Mapping[str, str], run: Callable[[Sequence[str]], str]
    ) -> None:
        self._directory = directory
        self._environ = environ
        self._run = run
        self._known: dict[_Key, str | _Unobtainable] = {}

    def read(self, ref: SecretRef) -> str:
        if ref.kind == "value":
            return ref.value.reveal() if ref.value is not None else ""
        source = (ref.kind, ref.target)
        if source not in self._known:
            try:
                self._known[source] = self._fetch(ref)
            except _Unobtainable as error:
                self._known[source] = error
        found = self._known[source]
        if isinstance(found, _Unobtainable):
            raise found
        return found

    def _fetch(self, ref: SecretRef) -> str:
        match ref.kind:
            case "env":
                return self._variable(ref.target[0])
            case "file":
                return self._file(os.path.join(self._directory, ref.target[0]))
            case _:
                return self._command(ref.target)

    def _variable(self, name: str) -> str:
        if name not in self._environ:
            raise _Unobtainable(
                f"the secret THIS needs the environment variable {quote(name)}, which is not set",
                f"set {name} for this run",
            )
        return self._environ[name]

    def _file(self, path: str) -> str:
        try:
            if not Path(path).is_file():
                raise _Unobtainable(
                    f"the secret THIS needs the file {quote(path)}, which is not there",
                    "create it, or correct `file`",
                )
            with open(path, "rb") as file:
                content = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = (error.strerror or "").lower() if isinstance(error, OSError) else ""
            raise _Unobtainable(
                f"the secret THIS needs the file {quote(path)}, which cannot be read"
                + (f": {reason}" if reason else ""),
                "check its permissions",
            ) from None
        if len(content) > MAX_BYTES:
            raise _Unobtainable(
                f"the secret THIS: the file {quote(path)} is larger than 1 MiB", "name a smaller file"
            )
        try:
            return _without_newline(content.decode())
        except UnicodeDecodeError:
            raise _Unobtainable(
                f"the secret THIS: the file {quote(path)} is not UTF-8 text",
                "encode it, for example as base64",
            ) from None

    def _command(self, argv: Sequence[str]) -> str:
        try:
            return _without_newline(self._run(argv))
        except Exception as error:  # noqa: BLE001 - whatever the runner raises may quote the output
            raise _Unobtainable(
                f"the secret THIS: the command {quote(argv[0])} {_failure(error)}", "run it by hand and see"
            ) from None


def _failure(error: Exception) -> str:
    """How a command failed, without a word of what it printed."""
    code = getattr(error, "returncode", None)
    if isinstance(code, int):
        return f"ended with exit code {code}"
    if isinstance(error, ConfigError):  # written by our own runner, which keeps the output to itself
        said = error.message.rpartition(" ended with ")[2] if " ended with " in error.message else ""
        return f"ended with {said}" if said else "did not work"
    if isinstance(error, FileNotFoundError):
        return "is not there"
    if isinstance(error, PermissionError):
        return "may not be run"
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "did not end in time"
    return "did not work"


def _without_newline(value: str) -> str:
    if value.endswith("\r\n"):
        return value[:-2]
    return value.removesuffix("\n")
