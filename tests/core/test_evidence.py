"""How a sentence and its evidence are put together."""

from __future__ import annotations

import pytest

from reconciler.model.evidence import evidenced


@pytest.mark.parametrize(
    ("detail", "told"),
    [
        pytest.param("", "it was killed", id="nothing speaks for it"),
        pytest.param("exit code 137", "it was killed (exit code 137)", id="in brackets"),
        pytest.param("exit code 137 (SIGKILL)", "it was killed: exit code 137 (SIGKILL)", id="no brackets in brackets"),
    ],
)  # fmt: skip
def test_a_sentence_and_its_evidence(detail: str, told: str) -> None:
    assert evidenced("it was killed", detail) == told
