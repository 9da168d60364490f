"""The views of records and of checks."""

from __future__ import annotations

import json

from cli_models import info

from reconciler.cli.views.checks import Check, checks_text
from reconciler.cli.views.records import record_dict, record_text, state_dict, state_text
from reconciler.cli.views.style import PLAIN, cells
from reconciler.model.desired import Address
from reconciler.model.state import SandboxRecord, State, Status


def record(address: str, status: Status = Status.READY) -> SandboxRecord:
    return SandboxRecord(
        address=Address(address),
        sandbox_id=f"research-{address.strip(']').replace('[', '-')}",
        backend="local",
        generation=2,
        spec={"environment.LEVEL": "info", "resources.memory": 1073741824, "secrets.KEY": "digest-of-key"},
        spec_hash="abc",
        info=info(address),
        status=status,
        depends_on=(Address("db"),),
        created_at=1_700_000_000.0,
        updated_at=1_700_000_060.0,
    )


def state() -> State:
    records = [record("r[10]"), record("r[2]", Status.TAINTED)]
    return State(
        stack="research",
        lineage="2f6c",
        serial=7,
        sandboxes={one.address: one for one in records},
        updated_at=1_700_000_060.0,
    )


def test_a_record_reads_as_the_golden_file(golden):
    golden("record.txt", record_text(record("researcher[0]"), style=PLAIN))


def test_the_state_reads_as_the_golden_file(golden):
    shown = state_text(state(), "state/research.json", width=80, style=PLAIN)
    golden("state.txt", shown)
    assert max(map(cells, shown.splitlines())) <= 80


def test_no_digest_of_a_secret_is_printed():
    for text in (
        record_text(record("a"), style=PLAIN),
        json.dumps([record_dict(record("a")), state_dict(state())]),
    ):
        assert "digest-of-key" not in text
        assert "secrets.KEY" in text


def test_checks_say_what_to_fix_under_their_subject(golden):
    checks = [
        Check(subject="configuration", what="valid", ok=True, detail="stack research, 3 declared"),
        Check(subject="backend local (docker)", what="engine", ok=False, detail="no answer; start it " * 5),
        Check(subject="backend local (docker)", what="version \x1b[2J", ok=True),
        Check(
            subject="backend local (docker)",
            what="sdk",
            ok=False,
            detail="the Docker SDK for Python cannot be imported",
            fix="pip install 'sandbox-reconciler[docker]'",
        ),
    ]
    shown = checks_text(checks, width=60, style=PLAIN)
    golden("doctor.txt", shown)
    assert max(map(cells, shown.splitlines())) <= 60


def test_when_nothing_is_wrong_that_is_said():
    shown = checks_text([Check(subject="a", what="b", ok=True)], width=60, style=PLAIN)
    assert shown.endswith("All is well.\n")
