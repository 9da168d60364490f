"""`reconciler graph`: what is drawn, in three formats, from a real configuration."""

from __future__ import annotations

import json
import random
from xml.etree import ElementTree

import pytest
from cli_models import create, plan, replaced, step
from msgspec.structs import replace

from reconciler.cli.main import run
from reconciler.cli.views.graph.dot import dot
from reconciler.cli.views.graph.layout import lay_out
from reconciler.cli.views.graph.mermaid import mermaid
from reconciler.cli.views.graph.nodes import Arrow, Edge, Graph, Node, graph_of
from reconciler.cli.views.graph.svg import MOST_NODES, svg
from reconciler.config.configure import configure
from reconciler.errors import ReconcilerError
from reconciler.model.plan import Action, Reason
from tests.support.counting import calls

CONFIG = """\
version: 1
stack: research
backends:
  local: {type: "BACKEND", path: WORLD}
  cluster: {type: process}
defaults: {backend: local}
sandboxes:
  db: {image: "postgres:16"}
  cache: {image: redis}
  queue: {image: nats, depends_on: [db]}
  proxy: {image: envoy, backend: cluster}
  researcher:
    image: aio
    replicas: 3
    depends_on: [queue, cache]
    environment: {DB: "${sandbox.db.url}", PROXY: "${sandbox.proxy.url}"}
  region: {image: aio, for_each: [eu, us], depends_on: [researcher]}
  scout: {image: aio, replicas: 12, depends_on: [proxy]}
  standalone: {image: aio}
"""
MEMORY = "reconciler.backends.memory:MemoryBackend"
SVG = "{http://www.w3.org/2000/svg}"
EVIL = 'end"]; <script>`x`</svg>&#\\\x07\u202e\ufffe'


class Untouchable:
    """A backend that nobody may open."""

    def __init__(self, **_: object) -> None:
        raise AssertionError("it was asked")


@pytest.fixture
def project(tmp_path):
    def write(text: str = CONFIG, backend: str = MEMORY):
        text = text.replace("BACKEND", backend).replace("WORLD", str(tmp_path / "world.json"))
        (tmp_path / "sandboxes.yaml").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def desired_in(folder):
    return configure(directory=folder, environ={}).desired


def chart(groups: int, pairs=(), **more) -> Graph:
    return Graph(
        stack="big",
        nodes=tuple(Node(name=f"group-{n}", backend=f"b{n % 3}", **more) for n in range(groups)),
        edges=tuple(Edge(source=one, target=other, kind=Arrow.DEPENDS_ON) for one, other in pairs),
    )


def planned_graph(folder) -> Graph:
    doing = plan(
        step("legacy", Action.DESTROY, Reason.REMOVED),
        replaced("db"),
        replaced("researcher[0]"),
        create("researcher[1]", {}),
        step("cache", Action.UPDATE, Reason.CONFIG_CHANGED),
    )
    return graph_of(desired_in(folder), doing)


@pytest.mark.parametrize("form", ["dot", "mermaid", "svg"])
def test_a_configuration_is_drawn_as_the_golden_file(form, project, capsys, golden):
    assert run(["-C", str(project()), "graph", "--format", form]) == 0
    golden(f"graph.{form}", capsys.readouterr().out)


@pytest.mark.parametrize(("form", "draw"), [("dot", dot), ("mermaid", mermaid), ("svg", svg)])
def test_a_plan_colours_what_it_changes_as_the_golden_file(form, draw, project, golden):
    golden(f"graph-plan.{form}", draw(planned_graph(project())))


def test_no_backend_is_asked_and_nothing_is_written_without_a_plan(project, capsys):
    folder = project(backend=f"{__name__}:Untouchable")
    assert run(["-C", str(folder), "graph"]) == 0
    assert run(["-C", str(folder), "graph", "--plan"]) != 0
    assert [path.name for path in folder.iterdir()] == ["sandboxes.yaml"]


def test_with_a_plan_the_backends_are_asked_what_is_to_do(project, capsys):
    folder = project(CONFIG.replace("{type: process}", '{type: "BACKEND", path: WORLD}'))
    assert run(["-C", str(folder), "graph", "--plan", "--json"]) == 0
    nodes = {node["group"]: node for node in json.loads(capsys.readouterr().out)["nodes"]}
    assert nodes["region"]["planned"] == {"create": 2}


def test_the_picture_goes_to_a_file_when_one_is_named(project, capsys):
    folder = project()
    assert run(["-C", str(folder), "graph", "--format", "svg", "-o", "fleet.svg"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "8 groups written to fleet.svg" in shown.err
    assert ElementTree.parse(folder / "fleet.svg").getroot().tag == f"{SVG}svg"


def test_a_file_that_cannot_be_written_is_an_error_that_names_it(project, capsys):
    assert run(["-C", str(project()), "graph", "-o", "no/such/place.dot"]) == 1
    assert "no/such/place.dot" in capsys.readouterr().err


def test_a_full_disk_is_told_with_the_file(project, capsys):
    assert run(["-C", str(project()), "graph", "-o", "/dev/full"]) == 1
    assert "cannot write /dev/full: No space left on device" in capsys.readouterr().err


def test_as_json_it_is_one_object_with_nodes_and_edges(project, capsys):
    assert run(["-C", str(project()), "graph", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {"group": "researcher", "backend": "local", "count": 3, "planned": None} in data["nodes"]
    edge = {"from": {"group": "researcher", "backend": "local"}, "to": {"group": "db", "backend": "local"}}
    assert {**edge, "kind": "reference"} in data["edges"]


def test_a_trigger_is_an_arrow_unless_it_is_a_dependency_already(project):
    desired = desired_in(project())
    db, scout = desired.sandboxes["db"], desired.sandboxes["scout[0]"]
    wanted = replace(scout, lifecycle=replace(scout.lifecycle, replace_triggered_by=(db.address, "proxy")))
    made = graph_of(replace(desired, sandboxes={**desired.sandboxes, "scout[0]": wanted}))
    arrows = {(made.nodes[e.source].name, made.nodes[e.target].name): e.kind for e in made.edges}
    assert arrows["scout", "db"] is Arrow.TRIGGER
    assert arrows["scout", "proxy"] is Arrow.DEPENDS_ON


def test_what_a_plan_destroys_and_nobody_declares_is_drawn_too(project):
    (legacy,) = [node for node in planned_graph(project()).nodes if node.name == "legacy"]
    assert (legacy.count, legacy.doing) == (0, "1 to destroy")


def test_a_group_with_different_things_to_do_has_the_colour_of_the_gravest(project):
    (node,) = [node for node in planned_graph(project()).nodes if node.name == "researcher"]
    assert (node.gravest, node.doing) == (Action.REPLACE, "1 to replace, 1 to create")


def test_a_stack_without_sandboxes_is_still_a_picture():
    empty = Graph(stack="empty", nodes=(), edges=())
    assert "declares no sandboxes" in svg(empty)
    assert dot(empty).startswith('digraph "empty" {')
    assert mermaid(empty) == "flowchart LR\n"


# -- whatever names hold


def test_no_name_can_break_out_of_the_picture():
    evil = Graph(stack=EVIL, nodes=(Node(name=EVIL, backend=EVIL), Node(name="x", backend=EVIL)), edges=())
    root = ElementTree.fromstring(svg(evil))
    assert root.findall(f".//{SVG}script") == []
    assert any("<script>" in (text.text or "") for text in root.iter(f"{SVG}text"))


def test_no_name_can_break_out_of_a_string_of_graphviz():
    evil = Graph(stack="s", nodes=(Node(name='a"b\\', backend="c&d"),), edges=())
    assert 'n0 [label="a\\"b\\\\"];' in dot(evil)
    assert 'label="c&amp;d";' in dot(evil)


def test_no_name_can_break_out_of_a_label_of_mermaid():
    evil = Graph(stack="s", nodes=(Node(name='end"]; <b>`#', backend="b"),), edges=())
    assert 'n0["end#34;]#59; #60;b#62;#96;#35;"]' in mermaid(evil)


# -- the picture


def test_the_picture_says_in_words_what_it_shows(project):
    root = ElementTree.fromstring(svg(graph_of(desired_in(project()))))
    assert root.get("role") == "img"
    ids = (root.get("aria-labelledby") or "").split()
    title, description = (root.find(f"*[@id='{name}']").text for name in ids)
    assert title == "Sandboxes of stack research"
    assert "researcher uses a value of db." in description


def test_boxes_never_overlap_and_stay_on_the_sheet():
    chance = random.Random(7)
    for _ in range(60):
        count = chance.randint(1, 40)
        sizes = [(float(chance.randint(90, 400)), 54.0) for _ in range(count)]
        pairs = sorted(
            {(chance.randrange(count), chance.randrange(count)) for _ in range(chance.randint(0, 60))}
        )
        pairs = [(one, other) for one, other in pairs if one != other]  # circles and all
        made = lay_out(sizes, pairs)
        boxes = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(made.corners, sizes, strict=True)]
        for index, (left, top, right, bottom) in enumerate(boxes):
            assert left >= -0.01
            assert top >= -0.01
            assert right <= made.width + 0.01
            assert bottom <= made.height + 0.01
            for other in boxes[:index]:
                apart = (
                    left >= other[2]
                    or right <= other[0]
                    or top >= other[3] - 0.01
                    or bottom <= other[1] + 0.01
                )
                assert apart, (sizes, pairs)


def test_what_is_needed_stands_to_the_right_of_what_needs_it():
    pairs = [(0, 1), (1, 2), (0, 2), (3, 2)]
    made = lay_out([(100.0, 54.0)] * 4, pairs)
    for one, other in pairs:
        assert made.corners[one][0] + 100 < made.corners[other][0]


def test_a_circle_of_groups_is_drawn_all_the_same():
    ElementTree.fromstring(svg(chart(3, [(0, 1), (1, 2), (2, 0)])))


def test_an_arrow_begins_and_ends_at_its_boxes():
    pairs = [(0, 1), (1, 2), (0, 2), (2, 0)]
    made = lay_out([(100.0, 54.0)] * 3, pairs)
    for (one, other), route in zip(pairs, made.routes, strict=True):
        assert route[0][1] == pytest.approx(made.corners[one][1] + 27)
        assert route[-1][1] == pytest.approx(made.corners[other][1] + 27)


@pytest.mark.parametrize(
    "pairs",
    [
        lambda most: [],
        lambda most: [(n, n + 1) for n in range(most)],
        lambda most: [(n, 0) for n in range(1, most + 1)],
        lambda most: [*((n, n + 1) for n in range(most)), *((n, most) for n in range(most - 1))],
    ],
    ids=["alone", "a chain", "all need one", "a chain whose links all need the last"],
)
def test_twice_the_groups_cost_twice_as_much_to_draw(pairs):
    def cost(groups: int) -> int:
        return calls(lambda: svg(chart(groups, pairs(groups - 1), count=3, replicas=True)))

    assert cost(1000) < 2.5 * cost(500)


def test_more_than_a_picture_can_show_is_an_error_that_says_what_to_do():
    with pytest.raises(ReconcilerError) as caught:
        svg(chart(MOST_NODES + 1))
    assert "--format dot" in caught.value.hint
