"""Values from outside stay values: no variable, environment or secret's command adds a key, a reference or a second command."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.cli.wiring import run_secret_command
from reconciler.config.configure import configure
from reconciler.config.secrets import resolve_secrets
from reconciler.errors import ConfigError
from tests.attack.places import folder

VALUES = {
    "a key of its own": "a\n    privileged: true",
    "the end of its quotes": 'a"}, evil: {"b": "c',
    "an interpolation": "${env.SECRET}",
    "an interpolation of a variable": "${var.x}",
    "an escaped interpolation": "$${env.SECRET}",
    "a tag": "!!python/object/apply:os.system [id]",
    "an alias": "*a",
    "a comment": "# a",
    "another document": "---\na: b",
    "a shell's command": "$(id); `id` | id",
}
TEXT = """\
variables: {x: {default: none}}
sandboxes: {box: {environment: {A: "${var.x}", B: "${env.X:-none}"}, labels: {a: b}}}
"""


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_a_value_arrives_as_it_is_and_changes_nothing_else(tmp_path: Path, value: str) -> None:
    environ = {"RECONCILER_VAR_x": value, "X": value, "SECRET": "hush"}
    made = configure(directory=folder(tmp_path, TEXT), environ=environ).desired
    [box] = made.sandboxes.values()
    assert box.spec.environment == {"A": value, "B": value}
    assert box.spec.labels == {"a": "b"}


@pytest.mark.parametrize("value", ["a\0b", "a\nb", "../../x", "a b", 'a"]', "é" * 100])
def test_a_value_that_becomes_a_name_is_checked_as_one(tmp_path: Path, value: str) -> None:
    text = 'variables: {x: {default: n}}\nsandboxes: {box: {for_each: ["${var.x}"], thread_id: "${var.x}"}}\n'
    with pytest.raises(ConfigError):
        configure(directory=folder(tmp_path, text), environ={"RECONCILER_VAR_x": value})


def test_a_secrets_command_is_words_and_no_shell(tmp_path: Path) -> None:
    text = "sandboxes: {box: {secrets: {T: {command: [printf, '%s', '$(id); id > hacked']}}}}\n"
    where = folder(tmp_path, text)
    desired = configure(directory=where, environ={}).desired
    made = resolve_secrets(desired, key=b"k" * 32, environ={}, run=run_secret_command)
    [box] = made.sandboxes.values()
    value = box.spec.secrets["T"].value
    assert value is not None
    assert value.reveal() == "$(id); id > hacked"
    assert not (where / "hacked").exists()


PATHS = {
    "a device": ("file: /dev/zero", "file"),
    "a directory": ("file: .", "file"),
    "a way out, which is the author's to choose, to nothing": ("file: ../../../../nowhere", "not there"),
}


@pytest.mark.parametrize(("ref", "said"), PATHS.values(), ids=PATHS.keys())
def test_a_secret_from_what_is_no_file_is_told_and_not_waited_for(
    tmp_path: Path, ref: str, said: str
) -> None:
    desired = configure(directory=folder(tmp_path, f"sandboxes: {{box: {{secrets: {{T: {{{ref}}}}}}}}}\n"), environ={}).desired  # fmt: skip
    with pytest.raises(ConfigError) as raised:
        resolve_secrets(desired, key=None, environ={}, run=run_secret_command)
    assert said in raised.value.diagnostics[0].summary  # type: ignore[attr-defined]
