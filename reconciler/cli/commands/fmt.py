"""`reconciler fmt`: the canonical layout, comments kept."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import click

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.jsonline import line
from reconciler.cli.views.style import CYAN, GREEN, RED, Style, harmless
from reconciler.cli.views.values import counted
from reconciler.errors import ReconcilerError


@command("fmt")
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when a file would change.")
@click.option("--diff", is_flag=True, help="Print the changes as a unified diff.")
def fmt(call: Invocation, *, check: bool, diff: bool) -> int:
    """Bring the configuration files into the canonical layout.

    Comments stay. Without --check the files are rewritten in place.
    """
    from reconciler.config.format import format_text
    from reconciler.config.load import load

    changed: list[str] = []
    files = load([Path(name) for name in call.settings.files], Path(call.settings.directory)).sources
    for source in files:
        after = format_text(source.text, source.name)
        if after == source.text:
            continue
        changed.append(source.name)
        if diff and not call.settings.json:
            call.terminal.answer(_diff(source.name, source.text, after, call.terminal.style))
        if not check:
            _rewrite(source.path, after)
    if call.settings.json:
        call.terminal.line(line({"checked": len(files), "changed": changed, "written": not check}))
    else:
        _tell(call, changed, len(files), check)
    return ExitCode.ERROR if check and changed else ExitCode.DONE


def _tell(call: Invocation, changed: list[str], files: int, check: bool) -> None:
    for name in changed:
        call.terminal.line(harmless(name))
    if not changed:
        call.note(f"{counted(files, 'file')} in the canonical layout already.")
    elif check:
        call.note(f"{counted(len(changed), 'file')} would change. Run `reconciler fmt` to rewrite.")
    else:
        call.note(f"{counted(len(changed), 'file')} rewritten.")


def _diff(name: str, before: str, after: str, style: Style) -> str:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{name} (now)", f"{name} (canonical)", lineterm=""
    )
    colours = {"+": (GREEN,), "-": (RED,), "@": (CYAN,)}
    return "".join(f"{style.paint(harmless(text), *colours.get(text[:1], ()))}\n" for text in lines)


def _rewrite(path: Path, text: str) -> None:
    """Whole or not at all: a half-written configuration must not be possible. The file keeps its mode."""
    real = path.resolve()  # a link stays a link
    fresh = real.with_name(f".{real.name[:100]}.{os.urandom(4).hex()}.fmt")
    try:
        with open(
            fresh, "x", encoding="utf-8", newline=""
        ) as file:  # never into a file that lay there waiting
            file.write(text)
        fresh.chmod(real.stat().st_mode & 0o7777)
        fresh.replace(real)
    except OSError as error:  # a full disk does not say which file it was
        raise ReconcilerError(
            f"cannot rewrite {path}: {error.strerror or error}", hint="it is as it was"
        ) from error
    finally:
        fresh.unlink(missing_ok=True)
