"""Writes the reference pages that are made of the code: keys of the YAML, commands, what the backends hold.

Run by `make docs`; `--check` writes nothing and fails when a page is not what the code says now. Nothing is
described here: descriptions come from the schema, from the commands and from the backends themselves.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from reconciler.backends.apple.capabilities import CAPABILITIES as apple_capabilities  # noqa: N811 - three of them here
from reconciler.backends.docker.capabilities import CAPABILITIES as docker_capabilities  # noqa: N811
from reconciler.backends.kubernetes.capabilities import capabilities as kubernetes_capabilities
from reconciler.backends.process.isolation import capabilities as process_capabilities
from reconciler.backends.registry import backend_types
from reconciler.cli.main import LISTING, cli
from reconciler.cli.options import base_options, config_options
from reconciler.config.schemas import schema_text
from reconciler.model.capabilities import Capabilities, Support
from reconciler.stores.registry import store_types

DOCS = Path(__file__).parent
NOTICE = "<!-- Made by docs/generate.py. Do not edit: change the source it names and run `make docs`. -->"

Schema = Mapping[str, Any]


def pages() -> Mapping[str, str]:
    """Every generated page by its file name."""
    return {
        "commands.md": commands_page(),
        "configuration.md": configuration_page(json.loads(schema_text("config"))),
        "fields-by-backend.md": fields_page(),
    }


# -- the YAML


def configuration_page(schema: Schema) -> str:
    return _text(_configuration(schema))


def _configuration(schema: Schema) -> Iterator[str]:
    definitions = schema["$defs"]
    yield "# Configuration reference"
    yield NOTICE
    yield "Source: `schemas/config.v1.schema.json`, which the loader validates with and `reconciler schema config` prints."
    yield "Keys that begin with `x-` are free everywhere; any other unknown key is an error."
    yield "## Top level"
    yield _keys(schema, definitions)
    yield "## A sandbox"
    yield (
        "An entry of `sandboxes`. `defaults` and `templates` take the same keys, except `replicas` and `for_each`; "
        "`defaults` takes no `template` either. Mappings merge, lists replace; the sandbox wins over its template, "
        "which wins over `defaults`."
    )
    yield _keys(definitions["sandbox"], definitions)
    for name in _blocks(definitions["sandbox"], definitions):
        block = _resolved(definitions[name], definitions)
        yield f"### `{name}`"
        yield block["description"]
        yield _keys(block, definitions)
    for title, name in (("A port", "port"), ("A mount", "mount"), ("A secret", "secret")):
        yield f"### {title}"
        yield definitions[name]["description"]
        yield _keys(definitions[name], definitions)
    yield "## A variable"
    yield definitions["variable"]["description"]
    yield _keys(definitions["variable"], definitions)
    yield "## An output"
    yield definitions["output"]["description"]
    yield _keys(definitions["output"], definitions)
    yield "## Backends"
    yield definitions["backendEntry"]["properties"]["type"]["description"]
    for kind in definitions["backendEntry"]["properties"]["type"]["anyOf"][0]["enum"]:
        yield from _kind(kind, definitions[f"{kind}Backend"], definitions, there=kind in backend_types())
    yield "## State"
    yield definitions["state"]["description"]
    for kind in definitions["state"]["properties"]["store"]["enum"]:
        yield from _kind(kind, definitions[f"{kind}Store"], definitions, there=kind in store_types())
    yield "## Moved, removed, imports, policy"
    for key, name in (
        ("moved", "move"),
        ("removed", "removal"),
        ("imports", "import"),
        ("policy", "policy"),
    ):
        yield f"### `{key}`"
        yield definitions[name]["description"]
        yield _keys(definitions[name], definitions)


def _kind(kind: str, block: Schema, definitions: Schema, *, there: bool) -> Iterator[str]:
    yield f"### `{kind}`"
    yield ("" if there else "**Not yet supported.** ") + block["description"]
    yield _keys(block, definitions)


def _blocks(sandbox: Schema, definitions: Schema) -> Iterator[str]:
    """The keys of a sandbox that have keys of their own."""
    for key, value in sandbox["properties"].items():
        if "properties" in _resolved(value, definitions):
            yield key


def _keys(block: Schema, definitions: Schema) -> str:
    required = set(block.get("required", ()))
    rows = []
    for key, value in block["properties"].items():
        entry = _resolved(value, definitions)
        rows.append(
            (
                f"`{key}`" + (" (required)" if key in required else ""),
                _expected(entry),
                f"`{json.dumps(entry['default'])}`" if "default" in entry else "",
                entry["description"] + _example(entry),
            )
        )
    return _table(("key", "takes", "default", "meaning"), rows)


def _expected(entry: Schema) -> str:
    if "const" in entry:
        return f"`{json.dumps(entry['const'])}`"
    if "x-expected" in entry:
        return str(entry["x-expected"])
    return {"object": "a mapping", "array": "a list"}.get(str(entry.get("type", "")), "any value")


def _example(entry: Schema) -> str:
    example = next(iter(entry.get("examples", ())), None)
    return "" if example is None else f" Example: `{json.dumps(example, ensure_ascii=False)}`"


def _resolved(entry: Schema, definitions: Schema) -> Schema:
    """With what it refers to filled in; what it says itself wins."""
    if "$ref" not in entry:
        return entry
    target = definitions[entry["$ref"].rpartition("/")[2]]
    return {**_resolved(target, definitions), **{k: v for k, v in entry.items() if k != "$ref"}}


# -- the commands


def commands_page() -> str:
    return _text(_commands())


def _commands() -> Iterator[str]:
    context = click.Context(cli, info_name="reconciler", **cli.context_settings)
    yield "# Commands"
    yield NOTICE
    yield "Answers go to standard output, everything else to standard error. What a run's end means: [exit-codes.md](exit-codes.md)."
    yield "## Global options"
    yield "They work before and after the command. Those for a configuration file are for commands that read one."
    yield _options([*config_options(), *base_options()])
    for section, names in LISTING.items():
        yield f"## {section}"
        for name in names:
            command = cli.get_command(context, name)
            assert command is not None
            yield from _command(command, click.Context(command, info_name=name, parent=context))


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"### `{context.command_path.removeprefix('reconciler ')}`"
    yield f"`{' '.join([context.command_path, *command.collect_usage_pieces(context)])}`"
    yield from map(_paragraph, inspect.cleandoc(command.help or "").split("\n\n"))
    shared = [*getattr(command, "shared", ()), command.get_help_option(context)]
    own = [p for p in command.get_params(context) if isinstance(p, click.Option) and p not in shared]
    if own:
        yield _options(own)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _command(below, click.Context(below, info_name=name, parent=context))


def _paragraph(text: str) -> str:
    """One line; the lines of a block that Click is told not to wrap stay."""
    if text.startswith("\b\n"):
        return "```console\n" + text.removeprefix("\b\n") + "\n```"
    return " ".join(text.split())


def _options(options: Sequence[click.Option]) -> str:
    rows = []
    for option in options:
        words = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
        takes = ""
        if not option.is_flag and not option.count:
            choices = getattr(option.type, "choices", None)
            takes = " \\| ".join(choices) if choices else (option.metavar or option.type.name.upper())
        default = f"`{_default(option)}`" if option.show_default and option.default is not None else ""
        rows.append((words, takes, default, option.help or ""))
    return _table(("option", "takes", "default", "meaning"), rows)


def _default(option: click.Option) -> object:
    """Of a pair of flags the one that holds."""
    if not option.secondary_opts:
        return option.default
    return (option.opts if option.default else option.secondary_opts)[0]


# -- the backends


def fields_page() -> str:
    return _text(_fields())


def _fields() -> Iterator[str]:
    with_bwrap = process_capabilities(isolated=True, counts_processes=True)
    without = process_capabilities(isolated=False, counts_processes=False)
    yield "# Fields by backend"
    yield NOTICE
    yield "Source: the capabilities that each backend declares; the planner reads the same table."
    yield (
        "*enforced*: it holds. *noted*: left out, harmless there, and the plan says so. *refused*: leaving it out "
        "would weaken security or correctness, so it is an error; `unsupported: warn` on the sandbox makes it noted. "
        "`field=value` is about that value alone, `*` stands for any name; the most specific line counts."
    )
    yield "## process"
    yield _table(
        ("field", "with bubblewrap", "without", "why"),
        [
            (
                f"`{field}`",
                str(with_bwrap.support(*_split(field))),
                str(without.support(*_split(field))),
                _why(field, with_bwrap) or _why(field, without),
            )
            for field in sorted({*with_bwrap.fields, *without.fields})
        ],
    )
    yield (
        "`resources.pids` holds where the kernel counts processes per sandbox: from Linux 5.14, and not for root. "
        "The limit on memory is per process. This is the table of a Linux machine."
    )
    yield from _rest(with_bwrap)
    for kind, able in (
        ("docker", docker_capabilities),
        ("apple", apple_capabilities),
        ("kubernetes", kubernetes_capabilities()),
    ):
        yield f"## {kind}"
        yield _table(
            ("field", "support", "why"),
            [
                (f"`{field}`", str(able.support(*_split(field))), _why(field, able))
                for field in sorted(able.fields)
            ],
        )
        yield from _rest(able)
    yield (
        "By what the value is, `kubernetes` also refuses: names in `network.allow` (a policy speaks of addresses), cores finer "
        "than a thousandth, users by name, seccomp profiles, `restart: on-failure:N`, and port names with two dashes in a row."
    )


def _rest(able: Capabilities) -> Iterator[str]:
    """What no table of fields shows."""
    in_place = ", ".join(f"`{prefix}`" for prefix in able.updatable)
    yield f"Anything else is {able.default}. " + (
        f"In place, without a restart, change: {in_place}; anything else that changes replaces the sandbox."
        if in_place
        else "Whatever changes replaces the sandbox."
    )
    if able.exposes_environment:
        yield "Whoever may inspect a sandbox reads its environment: a secret with `as: environment` is marked in the plan."
    if able.restarts:
        yield "What does not answer can be restarted: what it holds stays (see [backends.md](backends.md#restarts))."
    yield "Readiness probes: " + ", ".join(f"`{kind}`" for kind in sorted(able.probes)) + "."


def _why(field: str, able: Capabilities) -> str:
    name, value = _split(field)
    return "" if able.support(name, value) is Support.ENFORCED else able.reason(name, value)


def _split(field: str) -> tuple[str, str | None]:
    path, equals, value = field.partition("=")
    return path, value if equals else None


# -- Markdown


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for row in rows:
        cells = (cell if "\\|" in cell else cell.replace("|", "\\|") for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _text(blocks: Iterable[str]) -> str:
    return "\n\n".join(block for block in blocks if block) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or with `--check` say which are out of date."""
    stale = []
    for name, text in pages().items():
        path = DOCS / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
            print(f"wrote docs/{name}")
    if stale and "--check" in arguments:
        print(f"out of date: {', '.join(f'docs/{name}' for name in stale)}; run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
