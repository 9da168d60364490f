"""Secrets: referenced, read once, digested with a key, and never shown."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from reconciler.config.secrets import resolve_secrets
from reconciler.errors import ConfigError
from reconciler.model.desired import Address, Desired, SecretRef
from reconciler.model.diagnostic import Diagnostic
from tests.config.written import HEAD, configured, one, write

KEY = b"k" * 32


def no_command(argv: Sequence[str]) -> str:
    raise AssertionError(f"ran {argv}")


def shell(argv: Sequence[str]) -> str:
    return subprocess.run(list(argv), capture_output=True, text=True, check=True).stdout


def secrets_of(folder: Path, block: str, environ: Mapping[str, str] | None = None) -> Mapping[str, SecretRef]:
    fleet = configured(folder, HEAD + f"sandboxes: {{box: {{secrets: {block}}}}}\n", environ=environ).desired
    made = resolve_secrets(fleet, key=KEY, environ=environ or {}, run=shell)
    return made.sandboxes[Address("box")].spec.secrets


def failures(desired: Desired, environ: Mapping[str, str] | None = None) -> tuple[Diagnostic, ...]:
    with pytest.raises(ConfigError) as caught:
        resolve_secrets(desired, key=KEY, environ=environ or {}, run=shell)
    return caught.value.diagnostics  # type: ignore[return-value]


def test_entries_become_references_without_a_value(tmp_path: Path) -> None:
    text = (
        HEAD + "variables: {token: {sensitive: true}}\nsandboxes:\n  box:\n    secrets:\n"
        "      A: {env: VARIABLE}\n      B: {file: keys/b, as: environment}\n      C: {command: [pass, show, c]}\n"
        '      D: {value: "x-${var.token}"}\n'
    )
    sandbox = configured(tmp_path, text, var=["token=hunter2"]).desired.sandboxes[Address("box")]
    refs = sandbox.spec.secrets

    assert [(ref.source, ref.kind, ref.target, ref.delivery) for ref in refs.values()] == [
        ("env VARIABLE", "env", ("VARIABLE",), "file"),
        ("file keys/b", "file", (str(tmp_path / "keys" / "b"),), "environment"),
        ("command pass", "command", ("pass", "show", "c"), "file"),
        ("value of var.token", "value", (), "file"),
    ]
    assert all(not ref.digest for ref in refs.values())
    assert str(sandbox.at("secrets.B")) == "sandboxes.yaml:8:10"
    assert "hunter2" not in repr(sandbox)


def test_values_are_read_and_digested_with_the_key(tmp_path: Path) -> None:
    write(tmp_path, "from a file\n\n", "b")
    refs = secrets_of(
        tmp_path, "{A: {env: V}, B: {file: b}, C: {command: [echo, hello]}}", {"V": "from env\n"}
    )

    assert {name: ref.value.reveal() for name, ref in refs.items() if ref.value} == {
        "A": "from env\n", "B": "from a file\n", "C": "hello",
    }  # fmt: skip
    expected = hmac.new(KEY, b"C\0hello", hashlib.sha256).hexdigest()[:32]
    assert refs["C"].digest == f"hmac-sha256:{expected}"
    assert "from " not in repr(refs)


def test_the_same_value_under_another_name_or_key_has_another_digest(tmp_path: Path) -> None:
    refs = secrets_of(tmp_path, "{A: {env: V}, B: {env: V}}", {"V": "v"})

    assert refs["A"].digest != refs["B"].digest
    fleet = configured(tmp_path, HEAD + "sandboxes: {box: {secrets: {A: {env: V}}}}\n").desired
    other = resolve_secrets(fleet, key=b"other", environ={"V": "v"}, run=no_command)
    assert other.sandboxes[Address("box")].spec.secrets["A"].digest != refs["A"].digest


def test_without_a_key_there_is_a_value_and_no_digest(tmp_path: Path) -> None:
    fleet = configured(tmp_path, HEAD + "sandboxes: {box: {secrets: {A: {env: V}}}}\n").desired

    ref = (
        resolve_secrets(fleet, key=None, environ={"V": "v"}, run=no_command)
        .sandboxes[Address("box")]
        .spec.secrets["A"]
    )

    assert (ref.digest, ref.value and ref.value.reveal()) == ("", "v")


def test_each_source_is_read_once_and_replicas_go_on_sharing(tmp_path: Path) -> None:
    text = HEAD + (
        "sandboxes:\n  a: {replicas: 500, secrets: {T: {command: [get, it]}}}\n"
        "  b: {secrets: {U: {command: [get, it]}}}\n  c: {image: x}\n"
    )
    fleet = configured(tmp_path, text).desired
    runs = []

    def run(argv: Sequence[str]) -> str:
        runs.append(tuple(argv))
        return "value"

    made = resolve_secrets(fleet, key=KEY, environ={}, run=run)

    assert runs == [("get", "it")]
    assert len({id(made.sandboxes[Address(f"a[{i}]")].spec) for i in range(500)}) == 1
    assert made.sandboxes[Address("c")] is fleet.sandboxes[Address("c")]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{env: NOT_SET}", "`NOT_SET`, which is not set"),
        ("{env: EMPTY}", "is empty (env EMPTY)"),
        ("{file: nowhere}", "which is not there"),
        ("{file: .}", "which is not there"),
        ("{file: binary}", "not UTF-8"),
        ("{file: newline}", "is empty"),
        ("{command: [sh, -c, 'echo hunter2; echo hunter2 >&2; exit 3']}", "`sh` ended with exit code 3"),
        ("{command: [no-such-program-here]}", "is not there"),
        ("{command: [sh, -c, 'printf \"a\\0b\"']}", "NUL"),
    ],
)
def test_what_cannot_be_had_is_said_at_its_place_and_never_shown(
    tmp_path: Path, entry: str, words: str
) -> None:
    write(tmp_path, b"\xff\xfehunter2", "binary")
    write(tmp_path, "\n", "newline")
    fleet = configured(
        tmp_path, HEAD + f"sandboxes: {{box: {{replicas: 3, secrets: {{T: {entry}}}}}}}\n"
    ).desired

    (problem,) = failures(fleet, {"EMPTY": ""})

    assert words in problem.summary
    assert "`T`" in problem.summary
    assert problem.fix
    assert str(problem.position) == "sandboxes.yaml:3:45"
    assert "hunter2" not in repr(problem)


def test_all_that_cannot_be_had_is_said_at_once(tmp_path: Path) -> None:
    fleet = configured(
        tmp_path, HEAD + "sandboxes: {box: {secrets: {A: {env: X}, B: {env: X}, C: {file: x}}}}\n"
    ).desired

    assert [item.summary.partition(" needs")[0] for item in failures(fleet)] == [
        "the secret `A`", "the secret `B`", "the secret `C`",
    ]  # fmt: skip


def test_a_secret_in_clear_is_warned_of_and_masked(tmp_path: Path) -> None:
    made = configured(tmp_path, HEAD + "sandboxes: {box: {secrets: {T: {value: hunter2}}}}\n")

    (warning,) = made.warnings
    assert warning.code == "plain-secret"
    assert warning.snippet.endswith("{value: •••••••}}}}")
    assert "hunter2" not in repr(made)


@pytest.mark.parametrize(
    "text",
    [
        "sandboxes: {box: {secrets: {T: hunter2}}}\n",
        "sandboxes: {box: {secrets: hunter2}}\n",
        "sandboxes: {box: {secrets: [hunter2]}}\n",
        "sandboxes: {box: {secrets: {T: {vlaue: hunter2}}}}\n",
        "sandboxes: {box: {secrets: {T: {value: [hunter2]}}}}\n",
        "sandboxes: {box: {secrets: {T: {value: {a: hunter2}}}}}\n",
        "sandboxes: {box: {secrets: {T: {value: 'hunter2${nope}'}}}}\n",
        "sandboxes: {box: {secrets: {T: {value: hunter2, env: A}}}}\n",
        "sandboxes: {box: {zzz: 1, secrets: {T: {value: hunter2}}}}\n",
        "sandboxes:\n  box:\n    secrets:\n      T:\n        value: |\n          hunter2\n\t  more\n",
        "sandboxes: {box: {secrets: {T: {value: \"hunter2}}}}\n",
        "variables: {t: {type: number, sensitive: true, default: hunter2}}\n",
        "variables: {t: {sensitve: true, sensitive: yes, default: hunter2}}\n",
        "x-t: &t hunter2\nsandboxes: {box: {secrets: {T: {value: *t}}, zzz: *t}}\n",
        "backends: {r: {type: remote, url: 'http://me:hunter2@h', api_kye: hunter2}}\n",
        "state: {store: postgres, url: 'postgres://me:hunter2@h/db', zzz: 1}\n",
        "defaults: {secrets: {T: {value: hunter2, value: hunter2}}}\n",
    ],
)  # fmt: skip
def test_no_diagnostic_shows_what_may_be_a_secret(tmp_path: Path, text: str) -> None:
    write(tmp_path, HEAD + text)

    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, HEAD + text)

    assert caught.value.diagnostics
    assert "hunter2" not in repr(caught.value.diagnostics)
    assert "hunter2" not in str(caught.value)


def test_a_secret_may_differ_by_replica(tmp_path: Path) -> None:
    fleet = configured(
        tmp_path, HEAD + 'sandboxes: {box: {for_each: [a, b], secrets: {T: {env: "TOKEN_${each.key}"}}}}\n'
    ).desired  # fmt: skip

    made = resolve_secrets(fleet, key=KEY, environ={"TOKEN_a": "1", "TOKEN_b": "2"}, run=no_command)

    values = [sandbox.spec.secrets["T"].value for sandbox in made.sandboxes.values()]
    assert [value and value.reveal() for value in values] == ["1", "2"]


def test_the_delivery_may_come_from_a_variable(tmp_path: Path) -> None:
    above = "variables: {how: {default: environment}}\n"
    spec = one(tmp_path, "{secrets: {T: {env: A, as: '${var.how}'}}}", above=above).spec

    assert spec.secrets["T"].delivery == "environment"
    assert "secrets.T.as" in spec.canonical()
