"""Groups whose commands are imported when they are used: start-up pays for one command, not for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from reconciler.cli.options import CONTEXT, Helpful, base_options, config_options

Listing = Mapping[str, Mapping[str, tuple[str, str]]]
"""Section title → command name → (module:attribute, what it does in a line)."""


LATER = ("drift", "watch")


class LazyGroup(Helpful, click.Group):
    """Commands by section; unknown ones are answered with the closest known."""

    def __init__(self, *args: Any, listing: Listing, **more: Any) -> None:
        more.update(context_settings=CONTEXT, no_args_is_help=False, subcommand_metavar="COMMAND")
        super().__init__(*args, **more)
        self.listing = listing
        self.shared = [*config_options(), *base_options()]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *self.shared]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for commands in self.listing.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for commands in self.listing.values():
            if cmd_name in commands:
                module, _, attribute = commands[cmd_name][0].partition(":")
                found = getattr(import_module(module), attribute)
                assert isinstance(found, click.Command)
                return found
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not ctx.resilient_parsing and name not in self.list_commands(ctx) and not name.startswith("-"):
            if name in LATER:
                ctx.fail(f"`{name}` is not there yet: it comes in a later release.")
            import difflib  # only who mistyped something pays for it

            close = difflib.get_close_matches(name, self.list_commands(ctx), n=3, cutoff=0.5)
            hint = f" Did you mean {' or '.join(f'`{word}`' for word in close)}?" if close else ""
            ctx.fail(f"There is no command `{name}`.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in self.listing.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])
