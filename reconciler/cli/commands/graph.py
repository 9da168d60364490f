"""`reconciler graph`: the declared sandboxes and what they need, as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.jsonline import line
from reconciler.cli.views.style import harmless
from reconciler.cli.views.values import counted
from reconciler.cli.wiring import load, opened
from reconciler.errors import ReconcilerError
from reconciler.model.desired import Desired
from reconciler.model.plan import Plan


@command("graph")
@click.option(
    "--format",
    "form",
    type=click.Choice(["dot", "mermaid", "svg"]),
    default="dot",
    show_default=True,
    help="For Graphviz, for Markdown, or a picture.",
)
@click.option(
    "--plan", "planned", is_flag=True, help="Ask the backends, and colour what a plan would change."
)
@click.option("-o", "--output", metavar="FILE", help="Write to FILE.")
def graph(call: Invocation, *, form: str, planned: bool, output: str | None) -> int:
    """Draw the declared sandboxes and what they need: `depends_on`, references, triggers.

    Replicas are one node with a count. An arrow goes from a sandbox to what it needs. Without --plan no backend is asked.
    """
    from reconciler.cli.views.graph.nodes import graph_of

    made = graph_of(*(_planned(call) if planned else (load(call).desired, None)))
    if call.settings.json:
        text = line(made.to_dict()) + "\n"
    elif form == "svg":
        from reconciler.cli.views.graph.svg import svg

        text = svg(made)
    elif form == "mermaid":
        from reconciler.cli.views.graph.mermaid import mermaid

        text = mermaid(made)
    else:
        from reconciler.cli.views.graph.dot import dot

        text = dot(made)
    if output is None:
        call.terminal.answer(text)
        return ExitCode.DONE
    try:
        Path(call.settings.path(output)).write_text(text, encoding="utf-8", newline="")
    except (OSError, ValueError) as error:  # a full disk does not say which file it was
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ReconcilerError(f"cannot write {output}: {reason}", hint="name a place with -o") from error
    call.note(f"{counted(len(made.nodes), 'group')} written to {harmless(output)}.")
    return ExitCode.DONE


def _planned(call: Invocation) -> tuple[Desired, Plan]:
    from reconciler.engine import workflow

    with opened(call) as context:
        return context.desired, workflow.plan(context)
