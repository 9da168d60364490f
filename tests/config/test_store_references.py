"""Credentials of the store: read where the configuration says they are, and told by their key when they are not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from reconciler.config.references import with_credentials
from reconciler.errors import ConfigError
from reconciler.model.desired import Secret, StoreConfig

CANARY = "c4n4ry"


def resolved(directory: Path, **options: object) -> StoreConfig:
    def run(argv: Sequence[str]) -> str:
        if argv[0] == "broken":
            raise OSError(f"{CANARY} on standard error")
        return f"{CANARY}\n"

    config = StoreConfig(type="http", options=options)
    return with_credentials(config, directory=str(directory), environ={"T": CANARY, "EMPTY": ""}, run=run)


@pytest.mark.parametrize(
    "reference", [{"env": "T"}, {"file": "t.txt"}, {"command": ["pass", "show", "t"]}], ids=str
)
def test_a_reference_becomes_a_secret_that_never_prints_itself(
    tmp_path: Path, reference: dict[str, object]
) -> None:
    (tmp_path / "t.txt").write_text(f"{CANARY}\n")
    found = resolved(tmp_path, token=reference, url="https://h", timeout=3.0)
    assert found.options == {"token": Secret(CANARY), "url": "https://h", "timeout": 3.0}
    assert CANARY not in repr(found)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ({"env": "NONE"}, "`state.token` needs the environment variable `NONE`, which is not set"),
        ({"env": "EMPTY"}, "`state.token` is empty (env EMPTY)"),
        ({"file": "none.txt"}, "`state.token` needs the file"),
        ({"command": ["broken"]}, "`state.token`: the command `broken` did not work"),
    ],
    ids=["no variable", "an empty one", "no file", "a broken command"],
)
def test_what_cannot_be_had_is_told_by_its_key(
    tmp_path: Path, reference: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError) as told:
        resolved(tmp_path, token=reference)
    assert says in told.value.message
    assert told.value.hint
    assert CANARY not in f"{told.value.message} {told.value.hint} {told.value.__cause__!r}"


def test_other_options_stay_as_they_are(tmp_path: Path) -> None:
    options = {"path": "state", "nested": {"a": 1}, "both": {"env": "T", "file": "x"}}
    assert resolved(tmp_path, **options).options == options
