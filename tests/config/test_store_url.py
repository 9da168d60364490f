"""Where the store's credentials come from, and that they stay there."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.config.configure import configure
from reconciler.config.references import with_credentials
from reconciler.errors import ConfigError
from reconciler.model.desired import Secret, StoreConfig

URL = "postgresql://me:hunter2@h/db"


def _store(folder: Path, state: str) -> tuple[StoreConfig, list[str]]:
    """The store as it is declared, and the codes of all warnings."""
    file = folder / "sandboxes.yaml"
    file.write_text(f"version: 1\nstack: s\nstate: {state}\nsandboxes: {{box: {{}}}}\n")
    made = configure(paths=[file], directory=folder, var=(), environ={})
    return made.desired.store, [warning.code for warning in made.warnings]


@pytest.mark.parametrize(
    "reference", ["{env: PG}", "{file: url.txt}", "{command: [vault, read]}"], ids=["env", "file", "command"]
)
def test_a_reference_becomes_a_secret_only_when_the_store_is_opened(tmp_path: Path, reference: str) -> None:
    (tmp_path / "url.txt").write_text(f"{URL}\n")
    declared, warnings = _store(tmp_path, f"{{store: postgres, url: {reference}, timeout: 3s}}")
    assert "hunter2" not in repr(declared)
    assert warnings == []
    opened = with_credentials(
        declared, directory=str(tmp_path), environ={"PG": URL}, run=lambda argv: f"{URL}\n"
    )
    assert opened.options == {"url": Secret(URL), "timeout": 3}
    assert "hunter2" not in repr(opened)


@pytest.mark.parametrize(
    ("environ", "says"),
    [({}, "`state.url` needs the environment variable `PG`"), ({"PG": ""}, "`state.url` is empty (env PG)")],
    ids=["not set", "empty"],
)
def test_a_credential_that_cannot_be_had_is_told_by_its_option(
    tmp_path: Path, environ: dict[str, str], says: str
) -> None:
    declared, _ = _store(tmp_path, "{store: postgres, url: {env: PG}}")
    with pytest.raises(ConfigError) as refused:
        with_credentials(declared, directory=str(tmp_path), environ=environ, run=lambda argv: "")
    assert says in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        (URL, True),
        ("host=h user=me password=hunter2", True),
        ("postgresql://me@h/db", False),
        ("postgresql://[::1]:5432/db?user=me@h", False),
    ],
)
def test_a_password_in_the_file_is_warned_of(tmp_path: Path, url: str, warned: bool) -> None:
    _, warnings = _store(tmp_path, f"{{store: postgres, url: '{url}'}}")
    assert warnings == (["plain-secret"] if warned else [])
