"""The whole way from files and variables to `Desired`; every problem of it in one ConfigError."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.config.collector import collector_at_rest
from reconciler.config.diagnostics import Problems, illustrated
from reconciler.config.expand import expand
from reconciler.config.interpolate import Variable
from reconciler.config.load import Document, read
from reconciler.config.nodes import Source
from reconciler.config.readings import Readings
from reconciler.config.schema import is_valid, validate
from reconciler.config.sections import section
from reconciler.config.variables import Given, resolve
from reconciler.config.verdicts import Verdicts
from reconciler.model.desired import Desired
from reconciler.model.diagnostic import Diagnostic


class Configuration(Struct, frozen=True, kw_only=True):
    """`digest` is SHA-256 over names and bytes of the files, in hex. Secrets are references still: see
    `secrets.resolve_secrets`. `variables` are the values that were filled in."""

    desired: Desired
    warnings: tuple[Diagnostic, ...] = ()
    digest: str = ""
    variables: Mapping[str, Variable] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()

    def __repr__(self) -> str:
        return f"Configuration({self.desired.stack!r}, digest={self.digest!r})"  # no values, no sources

    def illustrate(self, diagnostic: Diagnostic) -> Diagnostic:
        """The same with its source line, where it has a position in these files; secrets in the line stay hidden."""
        return illustrated(diagnostic, self.sources)


def configure(
    *,
    paths: Sequence[Path] = (),
    directory: Path,
    var: Sequence[str] = (),
    var_files: Sequence[Path] = (),
    environ: Mapping[str, str],
    answers: Mapping[str, str] | None = None,
    ask: Callable[[str, bool], str] | None = None,
    verdicts: Verdicts | None = None,
    readings: Readings | None = None,
) -> Configuration:
    """Read, validate and expand. `paths` and `var_files` are relative to `directory`; `var` are `name=value` texts;
    `ask(name, sensitive)` asks a person for a variable that nothing sets, None where nobody is there; `answers` are those that
    he gave before. `verdicts` know which documents are valid, `readings` what was read before.

    Raises ConfigError with every problem found, in file order, and nothing else for any text.
    """
    with collector_at_rest():
        given = Given(var=var, var_files=var_files, environ=environ, answers=answers or {}, ask=ask)
        return _configure(paths, directory, given, verdicts, readings)


def _configure(
    paths: Sequence[Path],
    directory: Path,
    given: Given,
    verdicts: Verdicts | None,
    readings: Readings | None,
) -> Configuration:
    problems = Problems()
    document = read(paths, directory, problems, readings)
    if document is None:
        problems.raise_if_any()
        raise AssertionError("a document that could not be read has a problem")
    _validate(document, problems, verdicts)
    if problems:
        given = replace(given, ask=None)  # nobody wants to answer for a file that is wrong anyway
    variables = resolve(
        section(document.root, "variables", complete=document.complete), given, problems, directory=directory
    )
    desired = expand(document, variables, given.environ, problems)
    problems.raise_if_any()
    return Configuration(
        desired=desired,
        warnings=problems.warnings(),
        digest=document.digest,
        variables=variables,
        sources=document.sources,
    )


def _validate(document: Document, problems: Problems, verdicts: Verdicts | None) -> None:
    if verdicts is None or not document.complete:
        validate(document.root, problems, complete=document.complete)
    elif not verdicts.knows(document.digest):
        if is_valid(document.root):
            verdicts.keep(document.digest)
        else:
            validate(document.root, problems)
