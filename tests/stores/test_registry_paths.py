"""Where a file store is when nobody says where."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.model.desired import StoreConfig
from reconciler.stores.registry import open_store


@pytest.mark.parametrize(
    ("options", "place"),
    [
        pytest.param({}, "state", id="beside the configuration by default"),
        pytest.param({"path": "elsewhere"}, "elsewhere", id="relative to the configuration"),
    ],
)
def test_a_file_store_is_found_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], place: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    store = open_store(StoreConfig(options=options), stack="s", directory=tmp_path / "project")
    store.lock("test").release()
    assert list((tmp_path / "project" / place).iterdir())
    assert list(other.iterdir()) == []
