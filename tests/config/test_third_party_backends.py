"""Backends that other packages bring, by entry point: known to the configuration when they are installed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from reconciler.config.configure import configure
from reconciler.errors import ConfigError

CONFIG = "version: 1\nstack: s\nbackends: {b: {type: mine, anything: 1}}\nsandboxes: {a: {}}\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution on the path, as an installer leaves it."""
    info = tmp_path / "site" / "mine-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[reconciler.backends]\nmine = mine.backends:Mine\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()
    assert str(tmp_path / "site") in sys.path


def test_an_installed_one_is_known(tmp_path: Path, installed: None) -> None:
    (tmp_path / "sandboxes.yaml").write_text(CONFIG)
    desired = configure(directory=tmp_path, environ={}).desired
    assert desired.backends["b"].type == "mine"
    assert desired.backends["b"].options == {"anything": 1}


def test_one_that_is_not_installed_is_an_error_at_its_place(tmp_path: Path) -> None:
    (tmp_path / "sandboxes.yaml").write_text(CONFIG)
    with pytest.raises(ConfigError) as caught:
        configure(directory=tmp_path, environ={})
    [diagnostic] = caught.value.diagnostics
    assert str(diagnostic.position).endswith("sandboxes.yaml:3:22")  # type: ignore[attr-defined]
