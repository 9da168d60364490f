"""The graph for Graphviz: backends are clusters, arrows go from what depends to what it needs."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.cli.views.graph.nodes import Arrow, Graph, Node
from reconciler.cli.views.graph.palette import ACTIONS, UNTOUCHED
from reconciler.cli.views.style import harmless

_STYLES = {Arrow.DEPENDS_ON: "solid", Arrow.REFERENCE: "dashed", Arrow.TRIGGER: "dotted"}


def dot(graph: Graph) -> str:
    return "\n".join(_lines(graph)) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    yield f"digraph {_quoted(graph.stack)} {{"
    yield "  rankdir=LR;"
    yield '  graph [fontname="Helvetica,Arial,sans-serif", fontsize=12, color="#8c959f", style=rounded];'
    yield '  node [fontname="Menlo,Consolas,monospace", fontsize=12, shape=box, style="rounded,filled",'
    yield f'    fillcolor="{UNTOUCHED.fill}", color="{UNTOUCHED.line}", fontcolor="#1f2328"];'
    yield '  edge [fontname="Helvetica,Arial,sans-serif", fontsize=10, color="#59636e"];'
    for number, backend in enumerate(graph.backends):
        yield f"  subgraph cluster_{number} {{"
        yield f"    label={_quoted(backend)};"
        for index, node in enumerate(graph.nodes):
            if node.backend == backend:
                yield f"    n{index} [{_attributes(node)}];"
        yield "  }"
    for edge in graph.edges:
        yield f"  n{edge.source} -> n{edge.target} [style={_STYLES[edge.kind]}, tooltip={_quoted(edge.kind)}];"
    yield "}"


def _attributes(node: Node) -> str:
    parts = [f"label={_quoted(node.label, node.doing)}"]
    if node.gravest:
        paint = ACTIONS[node.gravest]
        parts += [f'fillcolor="{paint.fill}"', f'color="{paint.line}"']
    if not node.count:
        parts.append('style="rounded,filled,dashed"')
    return ", ".join(parts)


def _quoted(*lines: str) -> str:
    """A string of Graphviz, in which only backslashes and quotes mean something; HTML entities are read there too."""
    texts = (
        harmless(line).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
        for line in lines
        if line
    )
    return '"' + "\\n".join(texts) + '"'
