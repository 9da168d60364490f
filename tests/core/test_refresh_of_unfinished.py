"""`--refresh-only` records what is seen of a finished sandbox; what a run left half way it leaves to the next apply."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.core.refresh_only import refreshed
from reconciler.model.observed import ObservedSandbox
from reconciler.model.state import SandboxRecord, Status
from tests.support.build import record, seen, wanted

A = wanted("a", image="one")
ELSEWHERE: dict[str, Any] = {"attributes": {"image": "two"}}  # it drifted, so there is something to record


def steps(known: SandboxRecord, there: ObservedSandbox) -> int:
    return len(list(refreshed({A.address: known}, {A.address: there}, {A.address: A})))


@pytest.mark.parametrize(
    ("known", "there", "told"),
    [
        pytest.param(record(A), seen(A, **ELSEWHERE), 1, id="a ready one that drifted is recorded"),
        pytest.param(
            record(A, status=Status.TAINTED),
            seen(A, **ELSEWHERE),
            1,
            id="one that never answered is waited for",
        ),
        pytest.param(record(A, generation=2), seen(A, **ELSEWHERE), 0, id="not the old one as its successor"),
        pytest.param(
            record(A, status=Status.PENDING),
            seen(A, **ELSEWHERE),
            0,
            id="not what was never known to be created",
        ),
        pytest.param(
            record(A, status=Status.DESTROYING), seen(A, **ELSEWHERE), 0, id="not what is half destroyed"
        ),
        pytest.param(record(A, spec_hash=""), seen(A, **ELSEWHERE), 0, id="not what is half updated"),
    ],
)
def test_what_is_recorded_as_it_is_seen(known: SandboxRecord, there: ObservedSandbox, told: int) -> None:
    assert steps(known, there) == told
