"""The documentation says what is: links lead somewhere, commands exist, every term is explained."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.main import cli
from tests.docs.pages import PAGES, ROOT, anchors, code_lines, links, name_of

_WORDS = re.compile(r"^(?:\w+=\S+ )*reconciler(?=\s|$)(?P<rest>.*)$")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in links(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} is not there"
        assert ROOT in (target, *target.parents), f"{link} leaves the repository"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{link}: no such heading"


# The changelog tells of the past too: a name that was true then may be gone now.
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_every_command_and_option_that_a_page_shows_exists(page: Path) -> None:
    for line in code_lines(page.read_text(encoding="utf-8")):
        found = _WORDS.match(line)
        if found:
            _check_command(line, found["rest"].split())


def _check_command(line: str, words: list[str]) -> None:
    """Walk down the groups; every option is known to a group or command on the way."""
    context = _context()
    current: click.Command = cli
    known = _options(current, context)
    for word in words:
        if word in ("--", "|", "&&", "\\", ";", ">") or word.startswith("#"):
            break
        if word.startswith("-"):
            assert word.partition("=")[0] in known, f"`{line}`: no option {word}"
        elif isinstance(current, click.Group) and word in current.list_commands(context):
            found = current.get_command(context, word)
            assert found is not None
            current = found
            known |= _options(current, context)
    named = [word for word in words if re.fullmatch(r"[a-z]+(-[a-z]+)*", word)]
    if current is cli and named:
        assert named[0] in cli.list_commands(context), f"`{line}`: no command {named[0]}"


def _context() -> click.Context:
    """With the settings of the command: it keeps the first help option it is asked for."""
    return click.Context(cli, info_name="reconciler", **cli.context_settings)


def _options(command: click.Command, context: click.Context) -> set[str]:
    return {name for param in command.get_params(context) for name in [*param.opts, *param.secondary_opts]}


def test_a_made_up_command_or_option_on_a_page_would_be_noticed() -> None:
    with pytest.raises(AssertionError, match="no option"):
        _check_command("reconciler plan --detailed", ["plan", "--detailed"])
    with pytest.raises(AssertionError, match="no command"):
        _check_command("reconciler plam", ["plam"])


def test_the_readme_shows_every_command_once_at_least_or_links_to_the_page_that_does() -> None:
    listed = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    context = _context()
    assert all(f"### `{name}`" in listed for name in cli.list_commands(context))
    assert "docs/commands.md" in links((ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_glossary_has_every_type_of_the_model() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`([A-Za-z]+)`", glossary))
    missing = []
    for file in sorted((ROOT / "reconciler" / "model").glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                missing += [] if node.name in explained else [node.name]
    assert not missing


def test_the_glossary_is_in_order() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| ([^|]+?) \|", glossary, re.MULTILINE)[2:]
    assert words == sorted(words)


def test_the_exit_codes_on_the_page_are_those_of_the_program() -> None:
    page = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)] == sorted(ExitCode)


def test_the_generated_pages_are_what_the_code_says_now() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr


def test_every_decision_is_listed_and_says_where_it_stands() -> None:
    listed = links((ROOT / "docs" / "README.md").read_text(encoding="utf-8"))
    for file in sorted((ROOT / "docs" / "adr").glob("*.md")):
        assert f"adr/{file.name}" in listed
        assert re.search(r"^Status: (accepted|superseded by)", file.read_text(encoding="utf-8"), re.MULTILINE)
