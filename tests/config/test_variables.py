"""Where a variable's value comes from, and its type."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.config.configure import configure
from reconciler.errors import ConfigError
from reconciler.model.diagnostic import Diagnostic
from tests.config.written import HEAD, write

IMAGE = HEAD + "variables: {image: {default: from-default}}\nsandboxes: {box: {image: '${var.image}'}}\n"


def image_of(folder: Path, **options: object) -> str | None:
    options.setdefault("environ", {})
    (sandbox,) = configure(directory=folder, **options).desired.sandboxes.values()  # type: ignore[arg-type]
    return sandbox.spec.image


def refused(folder: Path, **options: object) -> tuple[Diagnostic, ...]:
    options.setdefault("environ", {})
    with pytest.raises(ConfigError) as caught:
        configure(directory=folder, **options)  # type: ignore[arg-type]
    return caught.value.diagnostics  # type: ignore[return-value]


def test_the_order_is_option_file_environment_default(tmp_path: Path) -> None:
    write(tmp_path, IMAGE)
    write(tmp_path, "image: from-file\n", "v/one.yaml")
    environ = {"RECONCILER_VAR_image": "from-environment"}

    assert image_of(tmp_path) == "from-default"
    assert image_of(tmp_path, environ=environ) == "from-environment"
    assert image_of(tmp_path, environ=environ, var_files=[Path("v/one.yaml")]) == "from-file"
    assert image_of(tmp_path, environ=environ, var_files=[Path("v/one.yaml")], var=["image=from=option"]) == (
        "from=option"
    )


def test_a_later_file_and_a_later_option_win(tmp_path: Path) -> None:
    write(tmp_path, IMAGE)
    write(tmp_path, "image: one\n", "v/1.yaml")
    write(tmp_path, "image: two\n", "v/2.yaml")

    assert image_of(tmp_path, var_files=[Path("v/1.yaml"), Path("v/2.yaml")]) == "two"
    assert image_of(tmp_path, var=["image=three", "image=four"]) == "four"


def test_a_person_is_asked_only_for_what_nothing_sets(tmp_path: Path) -> None:
    write(
        tmp_path,
        HEAD + "variables: {image: {}, token: {sensitive: true}, known: {default: k}}\n"
        "sandboxes: {box: {image: '${var.image}', secrets: {T: {value: '${var.token}'}}}}\n",
    )
    asked = []

    def ask(name: str, sensitive: bool) -> str:
        asked.append((name, sensitive))
        return f"answer-{name}"

    assert image_of(tmp_path, ask=ask) == "answer-image"
    assert asked == [("image", False), ("token", True)]


def test_an_answer_is_used_again_where_nothing_else_sets_it(tmp_path: Path) -> None:
    write(tmp_path, HEAD + "variables: {image: {}}\nsandboxes: {box: {image: '${var.image}'}}\n")
    answers = {"image": "answered"}
    assert image_of(tmp_path, answers=answers) == "answered"
    assert image_of(tmp_path, answers=answers, var=["image=given"]) == "given"


@pytest.mark.parametrize(
    ("kind", "given", "written"),
    [
        ("string", "1.10", "1.10"), ("string", "", ""), ("number", "3", "3"), ("number", " 2.50 ", "2.5"),
        ("bool", "true", "true"), ("list", "[a, 2]", "a2"), ("map", "{k: v}", "v"),
    ],
)  # fmt: skip
def test_an_option_is_read_by_the_declared_type(tmp_path: Path, kind: str, given: str, written: str) -> None:
    use = {
        "list": "for_each: '${var.v}', environment: {A: '${each.key}'}",
        "map": "for_each: '${var.v}', environment: {A: '${each.value}'}",
    }.get(kind, "environment: {A: '${var.v}'}")
    write(tmp_path, HEAD + f"variables: {{v: {{type: {kind}}}}}\nsandboxes: {{box: {{{use}}}}}\n")

    fleet = configure(directory=tmp_path, environ={}, var=[f"v={given}"]).desired.sandboxes

    assert "".join(sandbox.spec.environment["A"] for sandbox in fleet.values()) in (written, written[::-1])


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("number", "three"), ("number", "0755"), ("number", ""), ("bool", "yes"), ("bool", "1"), ("list", "a,b"),
        ("list", "{a: 1}"), ("map", "[a]"), ("map", "{a: 1"), ("map", "{a: !!python/none x}"), ("list", "[*a]"),
    ],
)  # fmt: skip
def test_an_option_of_the_wrong_type_is_refused(tmp_path: Path, kind: str, given: str) -> None:
    write(tmp_path, HEAD + f"variables: {{v: {{type: {kind}}}}}\n")

    (problem,) = refused(tmp_path, var=[f"v={given}"])

    assert problem.code == "wrong-type"
    assert problem.summary.startswith("--var v must be ")
    (problem,) = refused(tmp_path, environ={"RECONCILER_VAR_v": given})
    assert problem.summary.startswith("RECONCILER_VAR_v must be ")


@pytest.mark.parametrize(
    ("kind", "value", "place"),
    [
        ("string", "[a]", 1),
        ("number", "a", 1),
        ("bool", "yes", 1),
        ("list", "a", 1),
        ("map", "1", 1),
        ("string", "", 1),
    ],
)
def test_a_file_with_the_wrong_type_is_refused_at_its_line(
    tmp_path: Path, kind: str, value: str, place: int
) -> None:
    write(tmp_path, HEAD + f"variables: {{v: {{type: {kind}}}}}\n")
    write(tmp_path, f"v: {value}\n", "vars/v.yml")

    (problem,) = refused(tmp_path, var_files=[Path("vars/v.yml")])

    assert problem.position is not None
    assert (problem.position.file, problem.position.line, problem.code) == ("vars/v.yml", place, "wrong-type")


def test_a_string_from_a_file_stays_as_it_was_written(tmp_path: Path) -> None:
    write(tmp_path, IMAGE)
    write(tmp_path, "image: 1.10\n", "vars/v.yml")

    assert image_of(tmp_path, var_files=[Path("vars/v.yml")]) == "1.10"


def test_undeclared_variables_are_refused_with_a_suggestion(tmp_path: Path) -> None:
    write(tmp_path, IMAGE)
    write(tmp_path, "# why\nimge: a\n", "vars/v.yml")

    first, second = refused(tmp_path, var=["imag=a"], var_files=[Path("vars/v.yml")])

    assert first.position is None
    assert "`imag`" in first.summary
    assert str(second.position) == "vars/v.yml:2:7"
    assert first.fix == second.fix == "did you mean `image`?"


@pytest.mark.parametrize("text", ["image", "=a", ""])
def test_an_option_without_a_name_or_value_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path, IMAGE)

    (problem,) = refused(tmp_path, var=[text])

    assert "NAME=VALUE" in problem.summary


@pytest.mark.parametrize(
    "content",
    ["t: [hunter2, x\n", "t: {hunter2: hunter2}\n", "hunter2: 1\nt: a\nt: hunter2\n", "t: [hunter2]\n"],
    ids=["broken", "of the wrong type", "with a key twice", "a list"],
)
def test_a_file_with_a_secret_is_never_shown(tmp_path: Path, content: str) -> None:
    write(tmp_path, HEAD + "variables: {t: {sensitive: true}}\n")
    write(tmp_path, content, "vars/v.yml")

    found = refused(tmp_path, var_files=[Path("vars/v.yml")])

    assert found
    assert all(not item.snippet for item in found if item.position and item.position.file == "vars/v.yml")
    assert all("hunter2" not in item.fix + item.summary for item in found if item.code != "unknown-variable")


def test_a_secret_of_the_wrong_type_is_not_quoted(tmp_path: Path) -> None:
    write(tmp_path, HEAD + "variables: {t: {type: number, sensitive: true}}\n")

    assert "hunter2" not in repr(refused(tmp_path, var=["t=hunter2"]))
    assert "hunter2" not in repr(refused(tmp_path, environ={"RECONCILER_VAR_t": "hunter2"}))


def test_a_default_of_the_wrong_type_points_at_itself(tmp_path: Path) -> None:
    write(tmp_path, HEAD + "variables: {t: {type: number, default: abc}}\n")

    (problem,) = refused(tmp_path)

    assert (str(problem.position), problem.width) == ("sandboxes.yaml:3:40", 3)
    assert "`abc`" in problem.summary


def test_a_file_of_variables_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, IMAGE)

    (problem,) = refused(tmp_path, var_files=[Path("nowhere.yaml")])

    assert "nowhere.yaml" in problem.summary
