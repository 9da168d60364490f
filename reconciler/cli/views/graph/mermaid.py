"""The graph as a Mermaid flowchart, which forges draw in Markdown: backends are subgraphs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reconciler.cli.views.graph.nodes import GRAVEST, Arrow, Graph, Node
from reconciler.cli.views.graph.palette import ACTIONS
from reconciler.cli.views.style import harmless

_ARROWS = {
    Arrow.DEPENDS_ON: "-->",
    Arrow.REFERENCE: "-.->|reference|",
    Arrow.TRIGGER: "-.->|trigger|",
}
_PLAIN = re.compile(r"[^\w .,:()\[\]/+×-]")


def mermaid(graph: Graph) -> str:
    return "\n".join(_lines(graph)) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    yield "flowchart LR"
    for number, backend in enumerate(graph.backends):
        yield f"  subgraph b{number}[{_quoted(backend)}]"
        for index, node in enumerate(graph.nodes):
            if node.backend == backend:
                yield f"    n{index}[{_quoted(node.label, node.doing)}]{_class(node)}"
        yield "  end"
    for edge in graph.edges:
        yield f"  n{edge.source} {_ARROWS[edge.kind]} n{edge.target}"
    used = {node.gravest for node in graph.nodes}
    for action in GRAVEST:
        if action in used:
            paint = ACTIONS[action]
            yield f"  classDef {_name(action)} fill:{paint.fill},stroke:{paint.line},color:#1f2328"


def _class(node: Node) -> str:
    return f":::{_name(node.gravest)}" if node.gravest else ""


def _name(action: str) -> str:
    return f"to_{action}"  # a bare `create` or `update` may be a word of a later grammar


def _quoted(*lines: str) -> str:
    """A label. Whatever could mean something to Mermaid or to HTML is written as its number."""
    texts = (_PLAIN.sub(lambda match: f"#{ord(match[0])};", harmless(line)) for line in lines if line)
    return '"' + "<br>".join(texts) + '"'
