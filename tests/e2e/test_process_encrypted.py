"""A stack with an encrypted state, through the command line: the same life, and nothing to read at rest."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.places import a_key
from tests.support.cli import Folder, folder

CONFIG = """version: 1
stack: e2e
state: {store: file, path: state/, encryption: {key: {env: RECONCILER_ENCRYPTION_KEY}}}
sandboxes:
  unmistakable:
    replicas: 2
    environment: {WHAT_IT_SAYS: plainly, TOKENS: few}
    secrets: {T: {env: TOKEN}}
"""
WORDS = (b"unmistakable", b"WHAT_IT_SAYS", b"plainly", b"secrets.T", b"hmac-sha256", b"127.0.0.1")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Folder]:
    with folder(tmp_path, RECONCILER_ENCRYPTION_KEY=a_key(), TOKEN="some-token") as made:
        yield made


def words_at_rest(here: Folder) -> set[bytes]:
    files = [path for path in (here.path / "state").rglob("*") if path.is_file()]
    assert len(files) >= 4
    return {word for path in files for word in WORDS if word in path.read_bytes()}


def test_it_lives_as_any_other_and_tells_nothing_at_rest(here: Folder) -> None:
    here.write(CONFIG)
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)
    here.write(CONFIG.replace("plainly", "plainly-2").replace("replicas: 2", "replicas: 4"))
    run = here.start("apply", "--auto-approve")
    time.sleep(0.8)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate(timeout=30)
    assert words_at_rest(here) == set()
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)
    assert len(here.sandboxes()) == 4
    assert words_at_rest(here) == set()

    without = here("plan", code=1, environ={"RECONCILER_ENCRYPTION_KEY": ""})
    assert "RECONCILER_ENCRYPTION_KEY is empty" in without.stderr
    wrong = here("apply", "--auto-approve", code=1, environ={"RECONCILER_ENCRYPTION_KEY": a_key(2)})
    assert "is encrypted with another key than RECONCILER_ENCRYPTION_KEY" in " ".join(wrong.stderr.split())
    assert len(here.sandboxes()) == 4

    here.write(CONFIG.replace(", encryption: {key: {env: RECONCILER_ENCRYPTION_KEY}}", ""))
    assert "is encrypted, and the configuration names no key" in " ".join(here("plan", code=1).stderr.split())


def test_encryption_is_switched_on_changed_and_off_by_the_next_write(here: Folder) -> None:
    clear = CONFIG.replace(", encryption: {key: {env: RECONCILER_ENCRYPTION_KEY}}", "")
    here.write(clear)
    here("apply", "--auto-approve")
    assert words_at_rest(here) != set()
    steps = [
        (CONFIG, set()),
        (CONFIG.replace("{env: RECONCILER_ENCRYPTION_KEY}", "{env: NEW}, fallback_keys: [{env: RECONCILER_ENCRYPTION_KEY}]"), set()),
        (CONFIG.replace("{env: RECONCILER_ENCRYPTION_KEY}", "{env: NEW}, enforced: true"), set()),
        (CONFIG.replace("key: {env: RECONCILER_ENCRYPTION_KEY}", "fallback_keys: [{env: NEW}]"), None),
        (clear, None),
    ]  # fmt: skip
    here.environ["NEW"] = "a passphrase of some length"
    for number, (text, at_rest) in enumerate(steps):
        here.write(text.replace("few", f"few-{number}"))
        here("apply", "--auto-approve")
        here("plan", "--detailed-exitcode", code=0)
        assert at_rest is None or words_at_rest(here) == at_rest, text
    assert words_at_rest(here) != set()
    assert len(here.sandboxes()) == 2
