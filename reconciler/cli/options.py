"""The options that every command takes, before or after its name, and what they add up to.

Holds the shape of a command; what a command does is in `commands/`.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from msgspec import Struct, field

from reconciler import __version__
from reconciler.cli.terminal import Terminal, terminal_of

if TYPE_CHECKING:
    from reconciler.cli.views.json import JsonLines

CONTEXT = {"help_option_names": ["-h", "--help"]}


class Settings(Struct, frozen=True, kw_only=True):
    """The global options. `directory` is absolute; `files` and `var_files` are as given, relative to it."""

    directory: str
    files: tuple[str, ...] = ()
    json: bool = False
    no_color: bool = False
    quiet: bool = False
    verbose: bool = False
    var: tuple[str, ...] = ()
    var_files: tuple[str, ...] = ()

    def path(self, name: str) -> str:
        """A path given on the command line, from the directory of `--chdir`."""
        return os.path.join(self.directory, name)


class Given(Struct):
    """The options seen so far, before and after the command's name; lists grow, for the rest the last one counts."""

    values: dict[str, Any] = field(default_factory=dict)
    made: Invocation | None = None

    def add(self, name: str, value: object) -> None:
        if isinstance(value, tuple):
            self.values[name] = (*self.values.get(name, ()), *value)
        else:
            self.values[name] = value

    def settings(self) -> Settings:
        rest = dict(self.values)
        directory = os.path.abspath(rest.pop("chdir", "."))
        return Settings(directory=directory, **rest)


class Invocation(Struct, frozen=True, kw_only=True, dict=True):
    """What a command's function is called with: options, terminal and environment of this run. `answers` are the variables
    that a person was asked for, so that nobody asks for them again."""

    operation: str
    settings: Settings
    terminal: Terminal
    environ: Mapping[str, str]
    answers: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Invocation({self.operation!r})"  # no answers, no environment

    @functools.cached_property
    def events(self) -> JsonLines:
        """Where machine-readable events go; written to with `--json` only."""
        from reconciler.cli.views.json import JsonLines

        return JsonLines(self.terminal.line, operation=self.operation)

    def note(self, text: str) -> None:
        """Say something that `-q` and `--json` leave out."""
        if not self.settings.quiet and not self.settings.json:
            self.terminal.tell(text)


def invocation(given: Given, operation: str) -> Invocation:
    """The one of this run, made at the first call: an error is told to the same stream that the command began."""
    if given.made is not None:
        return given.made
    settings = given.settings()
    terminal = terminal_of(
        out=sys.stdout, err=sys.stderr, stdin=sys.stdin, environ=os.environ, no_color=settings.no_color
    )
    given.made = Invocation(
        operation=operation,
        settings=settings,
        terminal=terminal,
        environ=os.environ,
    )
    return given.made


def _record(context: click.Context, option: click.Parameter, value: object) -> object:
    assert option.name is not None
    if context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
        _refuse_senseless(context, option, value)
        context.ensure_object(Given).add(option.name, value)
    return value


def _refuse_senseless(context: click.Context, option: click.Parameter, value: object) -> None:
    """What an unset shell variable leaves behind: an empty path is not the present directory. Values may be secrets,
    so none is repeated."""
    for text in value if isinstance(value, tuple) else (value,):
        if text == "":
            raise click.BadParameter("it is empty", ctx=context, param=option)
        name, equals, _ = str(text).partition("=")
        if option.name == "var" and not (name.strip() and equals):
            raise click.BadParameter("it is not NAME=VALUE", ctx=context, param=option)


def _option(*names: str, text: str, **more: Any) -> click.Option:
    return click.Option(list(names), help=text, expose_value=False, callback=_record, **more)


def _print_version(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        click.echo(f"reconciler {__version__}")
        context.exit()


def base_options() -> list[click.Option]:
    """For every command."""
    return [
        _option("-C", "--chdir", metavar="DIR", text="Work as if started in DIR."),
        _option("--json", is_flag=True, text="Print JSON, one object a line."),
        _option("--no-color", "no_color", is_flag=True, text="Print without colour (also: NO_COLOR)."),
        _option("-q", "--quiet", is_flag=True, text="Say less: answers and errors only."),
        _option("-v", "--verbose", is_flag=True, text="Say more: tracebacks of internal errors, too."),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Print the version and leave.",
        ),
    ]


def config_options() -> list[click.Option]:
    """For commands that read the configuration."""
    return [
        _option(
            "-f",
            "--file",
            "files",
            metavar="PATH",
            multiple=True,
            text="Configuration file or directory; may be repeated. [default: sandboxes.yaml, else *.yaml]",
        ),
        _option("--var", metavar="NAME=VALUE", multiple=True, text="Set a variable; may be repeated."),
        _option(
            "--var-file", "var_files", metavar="PATH", multiple=True, text="Read variables from a YAML file."
        ),
    ]


class Helpful(click.Command):
    """With a help option of our own: click's looks for a translation of its text each time, though nobody reads it."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        if self._help_option is None:
            self._help_option = click.Option(
                ctx.help_option_names,
                is_flag=True,
                expose_value=False,
                is_eager=True,
                help="Show this message and exit.",
                callback=_show_help,
            )
        return self._help_option


def _show_help(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


class Command(Helpful):
    """A command with the global options under its own."""

    def __init__(self, *args: Any, config: bool = True, **more: Any) -> None:
        more["context_settings"] = {**CONTEXT, **more.get("context_settings", {})}
        super().__init__(*args, **more)
        self.shared = [*(config_options() if config else []), *base_options()]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *self.shared]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = [record for param in super().get_params(ctx) if (record := param.get_help_record(ctx))]
        shared = [record for option in self.shared if (record := option.get_help_record(ctx))]
        for title, records in (("Options", own), ("Global options", shared)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def command(name: str, *, config: bool = True, **more: Any) -> Callable[[Callable[..., int]], Command]:
    """Make a command of a function that takes an `Invocation` and the command's own options, and returns the exit
    code. Its docstring is the help text."""

    def wrap(function: Callable[..., int]) -> Command:
        @click.pass_context
        @functools.wraps(function)
        def callback(context: click.Context, /, **options: Any) -> int:
            return function(invocation(context.ensure_object(Given), name), **options)

        made = click.command(name, cls=Command, config=config, **more)(callback)
        assert isinstance(made, Command)
        return made

    return wrap
