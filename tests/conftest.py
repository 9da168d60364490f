"""Shared by all tests: the golden files and the one flag that rewrites them, container engines and PostgreSQL."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No deadline: a busy machine is no bug.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

# Nothing of the tests is left in the home of who runs them; and warm, as an installed command's soon is.
os.environ["XDG_CACHE_HOME"] = str(Path(tempfile.gettempdir()) / f"reconciler-cache-{os.getuid()}")

pytest_plugins = [
    "tests.support.docker",
    "tests.support.kubernetes.fixtures",
    "tests.support.podman",
    "tests.support.postgres",
]  # their fixtures, everywhere

GOLDEN = Path(__file__).parent / "golden"

Golden = Callable[[str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update", action="store_true", help="rewrite tests/golden from what the code prints now"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """`golden(name, text)`: the text equals `tests/golden/<name>`, byte for byte."""
    update: bool = request.config.getoption("--update")

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if update:
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing; make it with `pytest --update` and read it"
        assert text == path.read_text(encoding="utf-8")

    return compare
