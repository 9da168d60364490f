from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.fake_container import Engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A fake `container` of the newer generation with a world of its own."""
    made = Engine(tmp_path / "engine")
    yield made
    made.close()
