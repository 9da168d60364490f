"""Whatever a state, a lock, a configuration or a command line holds, nothing of it steers a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.cli.main import run
from reconciler.cli.views.style import harmless
from tests.attack.hostile import EVIL
from tests.attack.places import HOSTILE, a_state, check_harmless, folder, on_terminal

INFO = {
    "sandbox_id": EVIL, "sandbox_url": EVIL, "container_name": EVIL, "container_id": EVIL, "created_at": 1e299,
    "ports": {EVIL: 1},
}  # fmt: skip
RECORD = {
    "sandbox_id": EVIL, "backend": "m", "generation": 10**30, "status": "created", "spec_hash": EVIL,
    "spec": {EVIL: EVIL, "environment.A": EVIL}, "info": INFO, "depends_on": [EVIL], "created_at": 1e299,
    "updated_at": -1e299, "error": EVIL,
}  # fmt: skip
STATE = a_state(
    {"box": RECORD, EVIL: RECORD},
    serial=10**30,
    lineage=EVIL,
    updated_at=1e299,
    outputs={"o": EVIL, EVIL: EVIL},
)
LOCK = {
    "format": "1.0", "fence": 1,
    "holder": {
        "id": EVIL, "who": EVIL, "host": EVIL, "pid": 10**40, "operation": EVIL, "since": 1.0, "expires": 9e10,
        "fence": 1, "boot": EVIL, "started": EVIL,
    },
}  # fmt: skip
COMMANDS = (
    ["plan"], ["plan", "--format", "markdown"], ["plan", "--json"], ["plan", "--target", EVIL], ["plan", "-v"],
    ["status"], ["show"], ["show", "box"], ["show", EVIL], ["why", "box"], ["why", EVIL], ["output"], ["output", EVIL],
    ["graph"], ["graph", "--format", "mermaid"], ["graph", "--format", "svg"], ["graph", "--plan"],
    ["state", "list"], ["state", "show", EVIL], ["state", "history"], ["state", "rm", EVIL, "--dry-run"],
    ["lock", "show"], ["force-unlock", EVIL], ["doctor"], ["import", "box", EVIL], ["logs", "box"],
    ["apply", "--auto-approve"], ["apply", EVIL], ["validate"], ["fmt", "--check", "--diff"],
    ["plan", "--var", f"{EVIL}=1"], [EVIL], [f"--{EVIL}"], ["schema", EVIL], ["init", EVIL], ["-C", EVIL, "plan"],
)  # fmt: skip


@pytest.mark.parametrize("args", COMMANDS, ids=lambda args: harmless(" ".join(args)).replace("\\", "/"))
def test_a_hostile_state_and_lock_are_shown_harmlessly_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    folder(tmp_path, state=STATE)
    (tmp_path / "state" / "demo.lock").write_text(json.dumps(LOCK))
    run(["-C", str(tmp_path), *args])
    told = capsys.readouterr()
    check_harmless(told.out + told.err)


NAMES = {
    "a sandbox": 'sandboxes: {"b\\e[2J\\u202e": {}}\n',
    "a key": '"\\e[2J\\u202e\\u061c": 1\n',
    "a value": 'sandboxes: {b: {drift: "\\e[2J\\u061c"}}\n',
    "a tag": "x-a: !<\\e[2J> b\n",
    "an anchor": "x-a: *\u202e\u061c\n",
    "a line with a mistake": "x-\u202e\u061c: [a\n",
}


@pytest.mark.parametrize("text", NAMES.values(), ids=NAMES.keys())
def test_a_mistake_is_shown_harmlessly_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert run(["-C", str(folder(tmp_path, text)), "validate"]) == 3
    told = capsys.readouterr()
    check_harmless(told.out + told.err)


DECLARED = """\
backends: {m: {type: memory}}
sandboxes:
  b: {readiness: none, labels: {a: "\\e[31m\\u202e"}, environment: {A: "\\e[2J\\u061c\\u3164"}}
outputs: {o: "\\e[2J\\u202e${stack}"}
"""


@pytest.mark.parametrize("args", [["apply", "--auto-approve"], ["output", "o"], ["output"]], ids=" ".join)
def test_what_is_declared_reaches_a_real_terminal_harmlessly_by(tmp_path: Path, args: list[str]) -> None:
    code, printed = on_terminal(folder(tmp_path, DECLARED), *args)
    assert code == 0, printed
    check_harmless(printed)


@pytest.mark.parametrize("args", [["logs", "box"], ["exec", "box", "--", "x"]], ids=["logs", "exec"])
def test_what_comes_out_of_a_sandbox_is_harmless_on_a_terminal_and_whole_in_a_pipe(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], args: list[str]
) -> None:
    record = {
        **RECORD,
        "sandbox_id": "a",
        "backend": "h",
        "info": {**INFO, "sandbox_id": "a", "created_at": 1.0},
    }
    where = folder(tmp_path, HOSTILE % ("''", "close"), state=a_state({"box": record}))
    code, printed = on_terminal(where, *args)
    assert code == 0, printed
    assert "evil" in printed
    check_harmless(printed)
    assert run(["-C", str(where), *args]) == 0
    assert EVIL.rstrip("\r\n") in capfd.readouterr().out


HIDDEN = {
    "an Arabic letter mark": "\u061c",
    "a soft hyphen": "\xad",
    "a Hangul filler": "\u3164",
    "a Mongolian separator": "\u180e",
    "a variation selector that carries a byte": "\U000e0141",
    "a tag": "\U000e0041",
    "an annotation": "\ufff9",
    "a musical control": "\U0001d173",
}


@pytest.mark.parametrize("char", HIDDEN.values(), ids=HIDDEN.keys())
def test_what_takes_no_room_is_written_out(char: str) -> None:
    assert harmless(f"a{char}b") == f"a{ascii(char)[1:-1]}b"


def test_letters_and_pictures_of_all_the_world_stay() -> None:
    text = "naïve 日本語 العربية עברית हिन्दी 😀 ✔️ café"
    assert harmless(text) == text
