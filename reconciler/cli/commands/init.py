"""`reconciler init`: the first files of a project."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.starter import CONFIG_NAME, SCHEMA_NAME, stack_name, starter, with_ignored
from reconciler.cli.views.jsonline import line
from reconciler.cli.views.style import harmless
from reconciler.cli.wiring import usage_no_such
from reconciler.errors import ReconcilerError


@command("init", config=False)
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(file_okay=False))
@click.option("--backend", metavar="TYPE", default="process", show_default=True, help="Where sandboxes run.")
def init(call: Invocation, *, directory: str, backend: str) -> int:
    """Write a commented sandboxes.yaml into DIR, and what goes with it.

    Nothing that is there already is overwritten.
    """
    from reconciler.backends.registry import backend_types
    from reconciler.config.schemas import schema_text

    if backend == "podman":
        raise click.BadParameter(
            "Podman is reached through its Docker socket: take `--backend docker`, and set `host:` there",
            ctx=click.get_current_context(),
            param_hint="--backend",
        )
    if backend not in backend_types():
        raise usage_no_such("backend", backend, sorted(backend_types()))
    if not directory:
        raise click.BadParameter("it is empty", ctx=click.get_current_context(), param_hint="DIR")
    target = Path(os.path.normpath(call.settings.path(directory)))
    _refuse_if_begun(target)
    stack = stack_name(target.name)
    files = {CONFIG_NAME: starter(stack, backend), SCHEMA_NAME: schema_text("config").rstrip("\n") + "\n"}
    ignore = target / ".gitignore"
    ignored = with_ignored(ignore.read_text(encoding="utf-8") if ignore.exists() else "")
    if ignored is not None:
        files[".gitignore"] = ignored
    for name, text in files.items():
        path = target / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, text)
        except OSError as error:
            raise ReconcilerError(
                f"cannot write {path}: {error.strerror}",
                hint="choose another directory: `reconciler init DIR`",
            ) from error
    _tell(call, directory, stack, backend, list(files))
    return ExitCode.DONE


def _write(path: Path, text: str) -> None:
    """Where we put it, and nowhere else: a link in somebody's checkout may lead anywhere."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)


def _refuse_if_begun(target: Path) -> None:
    """Any YAML at the top counts: a second file beside it would be left out, or merged, and neither was meant."""
    found = sorted(path.name for ending in ("*.yaml", "*.yml") for path in target.glob(ending))
    if found:
        raise ReconcilerError(
            f"{target / found[0]} is there already, so nothing was written",
            hint="edit it, or choose another directory: `reconciler init DIR`",
        )


def _tell(call: Invocation, directory: str, stack: str, backend: str, files: list[str]) -> None:
    if call.settings.json:
        call.terminal.line(line({"stack": stack, "directory": directory, "files": files}))
        return
    here = os.path.normpath(directory) == "."
    for name in files:
        call.terminal.line(f"wrote {harmless(name if here else os.path.join(directory, name))}")
    where = "" if here else f"-C {shlex.quote(harmless(directory))} "
    call.note(
        f"\nStack {stack} has {'one sandbox' if backend == 'url' else 'two sandboxes'}. Next: `reconciler {where}plan`, then `reconciler {where}apply`."
    )
