"""Processes are measured as they are: what they take, what they say, and how they end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import measure
from benchmarks.measure import heard, once


@pytest.fixture(autouse=True, scope="module")
def a_launcher_of_ones_own() -> Iterator[None]:
    measure._launcher.cache_clear()
    yield
    measure._launcher().communicate()
    measure._launcher.cache_clear()


def python(code: str, *options: str) -> list[str]:
    return [sys.executable, *options, "-c", code]


def test_the_memory_of_whoever_measures_is_not_the_childs() -> None:
    held = bytearray(200 << 20)
    small = once(python("pass", "-I", "-S"))
    large = once(python("bytearray(100 << 20)", "-I", "-S"))
    assert 1 < small.peak_mb < 60
    assert 100 < large.peak_mb < 160
    assert len(held) == 200 << 20


def test_processor_time_is_the_childs_and_waiting_is_none() -> None:
    busy = once(python("import time\nwhile time.process_time() < 0.3: pass", "-I", "-S"))
    idle = once(python("import time; time.sleep(0.3)", "-I", "-S"))
    assert idle.cpu < 0.3 <= busy.cpu
    assert idle.wall >= 0.3
    assert busy.wall >= 0.29, "one processor cannot do it in less"


def test_what_it_writes_is_heard_in_its_folder_with_its_environment(tmp_path: Path) -> None:
    code = "import os; print(os.getcwd(), os.environ['MARK'], os.environ.get('PYTHONDONTWRITEBYTECODE'))"
    cost, said = heard(python(code), tmp_path, MARK="here")
    assert said == f"{tmp_path} here None\n"
    assert cost.wall > 0


def test_a_command_that_fails_ends_the_measurement_with_what_it_said() -> None:
    with pytest.raises(SystemExit, match=r"ended with 3:\nno way"):
        once(python("import sys; sys.exit((print('no way', file=sys.stderr), 3)[1])"))
    with pytest.raises(SystemExit, match="ended with 127"):
        once(["no-such-program-anywhere"])
