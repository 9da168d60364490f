"""The graph as a picture that needs no program: an SVG of its own, for light and for dark ground.

Fixed colours first and a media query for the dark after them, so that a viewer that knows no media queries draws it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.cli.views.graph.layout import Layout, Point, lay_out
from reconciler.cli.views.graph.nodes import DOING, GRAVEST, Arrow, Graph, Node
from reconciler.cli.views.graph.palette import BACKENDS
from reconciler.cli.views.graph.sheet import escaped, number, style
from reconciler.cli.views.style import cells, fit_middle, harmless
from reconciler.cli.views.values import counted
from reconciler.errors import ReconcilerError

MOST_NODES, MOST_ARROWS = 2000, 10_000  # beyond that nobody would see anything in a picture
_MARGIN, _HEAD, _LINE = 28.0, 64.0, 24.0
_BOX_HEIGHT, _PAD = 54.0, 16.0
_WIDEST_NAME = 40  # characters
_NAME, _SMALL = 8.45, 6.7  # width of a character of names and of small print, in pixels
_NARROWEST = 360.0
_MOST_TOLD = 20  # arrows in the description

_ARROW_WORDS = {
    Arrow.DEPENDS_ON: "depends on",
    Arrow.REFERENCE: "uses a value of",
    Arrow.TRIGGER: "is replaced along with",
}


def svg(graph: Graph) -> str:
    """The whole document. Raises ReconcilerError for more than a picture can show."""
    if len(graph.nodes) > MOST_NODES or len(graph.edges) > MOST_ARROWS:
        raise ReconcilerError(
            f"{counted(len(graph.nodes), 'group')} with {counted(len(graph.edges), 'arrow')} are too many for a picture",
            hint="write `--format dot`, and lay it out with Graphviz: `sfdp -Tsvg`",
        )
    layout = lay_out(
        [(_width(node), _BOX_HEIGHT) for node in graph.nodes],
        [(edge.source, edge.target) for edge in graph.edges],
    )
    width = max(_NARROWEST, layout.width + 2 * _MARGIN)
    top = _HEAD + _MARGIN / 2
    legend, rows = _legend(graph, width)
    below = top + layout.height + _MARGIN
    height = below + rows * _LINE + (_MARGIN - 8 if rows else 0)
    return "\n".join(_document(graph, layout, (width, height), top, legend, below)) + "\n"


def _document(
    graph: Graph, layout: Layout, size: Point, top: float, legend: Sequence[str], below: float
) -> Iterator[str]:
    width, height = size
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {number(width)} {number(height)}" '
        f'width="{number(width)}" height="{number(height)}" class="fleet" role="img" aria-labelledby="fleet-title fleet-desc">'
    )
    title = f"Sandboxes of stack {graph.stack}"
    yield f'<title id="fleet-title">{escaped(title)}</title>'
    yield f'<desc id="fleet-desc">{escaped(_description(graph))}</desc>'
    yield from style()
    yield "<defs>"
    yield (
        '<marker id="fleet-head" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8" '
        'markerUnits="userSpaceOnUse" orient="auto"><path class="head" d="M0 0.5 8 4 0 7.5z"/></marker>'
    )
    yield "</defs>"
    yield f'<rect class="ground" width="{number(width)}" height="{number(height)}" rx="8"/>'
    yield f'<text class="stack" x="{number(_MARGIN)}" y="38">{escaped(fit_middle(harmless(graph.stack), 40))}</text>'
    yield f'<text class="small" x="{number(_MARGIN)}" y="58">{escaped(_counts(graph))}</text>'
    yield f'<g transform="translate({number(_MARGIN)} {number(top)})">'
    for edge, route in zip(graph.edges, layout.routes, strict=True):
        told = _sentence(graph, edge.source, edge.kind, edge.target)
        yield (
            f'<path class="arrow {edge.kind}" d="{_curve(route)}" marker-end="url(#fleet-head)">'
            f"<title>{escaped(told)}</title></path>"
        )
    colours = {backend: index % len(BACKENDS) for index, backend in enumerate(graph.backends)}
    for node, corner in zip(graph.nodes, layout.corners, strict=True):
        yield from _box(node, corner, colours[node.backend])
    yield "</g>"
    if legend:
        yield f'<g transform="translate({number(_MARGIN)} {number(below)})">'
        yield from legend
        yield "</g>"
    yield "</svg>"


def _box(node: Node, corner: Point, colour: int) -> Iterator[str]:
    width = _width(node)
    kind = f" {node.gravest}" if node.gravest else ""
    gone = "" if node.count else " gone"
    told = f"{node.label} on {node.backend}" + (f": {node.doing}" if node.doing else "")
    yield f'<g transform="translate({number(corner[0])} {number(corner[1])})">'
    yield f"<title>{escaped(told)}</title>"
    yield f'<rect class="box{kind}{gone}" width="{number(width)}" height="{number(_BOX_HEIGHT)}" rx="7"/>'
    yield f'<text class="name" x="{number(_PAD)}" y="23">{escaped(_name(node))}</text>'
    if node.replicas and node.count:
        yield f'<text class="count" x="{number(width - _PAD)}" y="23">{node.count}×</text>'
    yield f'<circle class="b{colour}" cx="{number(_PAD + 4)}" cy="38.5" r="4"/>'
    yield f'<text class="small" x="{number(_PAD + 14)}" y="42.5">{escaped(_under(node))}</text>'
    yield "</g>"


def _name(node: Node) -> str:
    return fit_middle(harmless(node.name), _WIDEST_NAME)


def _under(node: Node) -> str:
    """The second line of a box."""
    backend = fit_middle(harmless(node.backend), _WIDEST_NAME)
    return f"{backend} · {node.doing}" if node.doing else backend


def _width(node: Node) -> float:
    count = f"  {node.count}×" if node.replicas and node.count else ""
    first = cells(_name(node) + count) * _NAME
    return max(96.0, round(2 * _PAD + max(first, 14 + cells(_under(node)) * _SMALL)))


def _curve(route: Sequence[Point]) -> str:
    """Straight through columns, curved between them, level where it leaves and where it comes in."""
    (x, y), *rest = route
    parts = [f"M{number(x)} {number(y)}"]
    straight = False
    for index, (to_x, to_y) in enumerate(rest):
        straight = index % 2 == 1  # two points a column: into it, and out of it
        if straight or abs(to_y - y) < 0.5:
            parts.append(f"L{number(to_x)} {number(to_y)}")
        else:
            middle = number((x + to_x) / 2)
            parts.append(f"C{middle} {number(y)} {middle} {number(to_y)} {number(to_x)} {number(to_y)}")
        x, y = to_x, to_y
    return "".join(parts)


def _counts(graph: Graph) -> str:
    total = sum(node.count for node in graph.nodes)
    if not graph.nodes:
        return "declares no sandboxes"
    return f"{counted(len(graph.nodes), 'group')}, {counted(total, 'sandbox', 'sandboxes')}"


def _sentence(graph: Graph, source: int, kind: Arrow, target: int) -> str:
    return f"{graph.nodes[source].name} {_ARROW_WORDS[kind]} {graph.nodes[target].name}"


def _description(graph: Graph) -> str:
    """The picture in words, for those who do not see it."""
    said = [f"{_counts(graph)}."]
    said += [f"{_sentence(graph, e.source, e.kind, e.target)}." for e in graph.edges[:_MOST_TOLD]]
    if len(graph.edges) > _MOST_TOLD:
        said.append(f"And {counted(len(graph.edges) - _MOST_TOLD, 'more arrow')}.")
    return " ".join(said)


def _legend(graph: Graph, width: float) -> tuple[list[str], int]:
    """What the signs mean, only those that are used, in rows; and how many rows."""
    entries: list[tuple[str, str]] = []
    kinds = {edge.kind for edge in graph.edges}
    for kind in Arrow:
        if kind in kinds:
            sign = f'<path class="arrow {kind}" d="M0 -4H26" marker-end="url(#fleet-head)"/>'
            entries.append((sign, _ARROW_WORDS[kind]))
    used = {node.gravest for node in graph.nodes}
    for action in GRAVEST:
        if action in used:
            sign = f'<rect class="box {action}" y="-11" width="24" height="13" rx="3"/>'
            entries.append((sign, DOING[action]))
    if graph.planned and None in used:
        entries.append(('<rect class="box" y="-11" width="24" height="13" rx="3"/>', "unchanged"))
    lines: list[str] = []
    x, row = 0.0, 0
    for sign, words in entries:
        room = 34 + cells(words) * _SMALL + 20
        if x and x + room > width - 2 * _MARGIN:
            x, row = 0.0, row + 1
        place = f"translate({number(x)} {number(row * _LINE + 12)})"
        lines.append(f'<g transform="{place}">{sign}<text class="small" x="34" y="0">{words}</text></g>')
        x += room
    return lines, row + 1 if lines else 0
