"""Builders: a configuration from text, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from reconciler.config.configure import Configuration, configure
from reconciler.errors import ConfigError
from reconciler.model.desired import Desired, DesiredSandbox
from reconciler.model.diagnostic import Diagnostic

HEAD = "version: 1\nstack: s\n"


def write(folder: Path, text: str | bytes, name: str = "sandboxes.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def configured(
    folder: Path,
    text: str,
    *,
    var: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Configuration:
    write(folder, text)
    return configure(directory=folder, var=var, environ=environ or {})


def desired(folder: Path, sandboxes: str, *, environ: Mapping[str, str] | None = None) -> Desired:
    """The fleet of a text that stands below `version` and `stack`."""
    return configured(folder, HEAD + sandboxes, environ=environ).desired


def one(
    folder: Path, block: str, *, above: str = "", environ: Mapping[str, str] | None = None
) -> DesiredSandbox:
    """The one sandbox of a flow block such as `{image: a}`."""
    fleet = desired(folder, f"{above}sandboxes:\n  box: {block}\n", environ=environ).sandboxes
    assert len(fleet) == 1
    return next(iter(fleet.values()))


def wrong(
    folder: Path,
    text: str | bytes,
    *,
    var: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> tuple[Diagnostic, ...]:
    """The diagnostics of a configuration that is refused."""
    write(folder, text)
    with pytest.raises(ConfigError) as caught:
        configure(directory=folder, var=var, environ=environ or {})
    found = caught.value.diagnostics
    assert all(isinstance(item, Diagnostic) for item in found)
    return found  # type: ignore[return-value]
