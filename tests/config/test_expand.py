"""From a document to the fleet: templates, defaults, replicas, for_each, dependencies, places of every value."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from reconciler.config.configure import configure
from reconciler.core import references
from reconciler.errors import ConfigError
from reconciler.model.desired import (
    Address,
    BackendConfig,
    Mount,
    MountKind,
    Network,
    NetworkMode,
    Port,
    ProbeKind,
    Readiness,
    Resources,
    Security,
    StoreConfig,
)
from reconciler.model.diagnostic import Severity
from tests.config.written import HEAD, configured, desired, one, write, wrong

FULL = """
  box:
    image: a:1
    entrypoint: [init]
    command: [serve, --port, 8080]
    environment: {LOG_LEVEL: info}
    ports: [{name: http, container: 8080}, {name: sql, container: 5432, host: 15432, bind: "::1"}]
    mounts: [{source: ./w, target: /w/, read_only: true}, {type: bind, source: /abs, target: //abs/./x/..}, {type: tmpfs, target: /tmp.d, size: 64Mi}, {type: volume, source: data_1.x, target: /data}]
    resources: {cpu: 500m, memory: 1Gi, pids: 512, shm: 64M}
    network: {mode: allowlist, allow: [pypi.org]}
    security:
      {read_only_root: true, cap_drop: [ALL, net_raw], cap_add: [CAP_NET_ADMIN, kill, NET_ADMIN], init: false,
       no_new_privileges: true, seccomp: default, user: 1000}
    runtime: runsc
    restart: on-failure:3
    thread_id: t-42
    labels: {team: search, version: 1.10}
    readiness: {http: /up, port: sql, expect: 204, successes: 2, interval: 250ms, timeout: 1m30s}
    unsupported: warn
"""


def test_every_key_reaches_the_spec(tmp_path: Path) -> None:
    spec = desired(tmp_path, f"sandboxes:{FULL}").sandboxes[Address("box")].spec

    assert (spec.image, spec.runtime, spec.thread_id, spec.unsupported_warn) == ("a:1", "runsc", "t-42", True)
    assert (spec.entrypoint, spec.command) == (("init",), ("serve", "--port", "8080"))
    assert spec.environment == {"LOG_LEVEL": "info"}
    assert spec.labels == {"team": "search", "version": "1.10"}
    assert spec.ports == (
        Port(name="http", container=8080),
        Port(name="sql", container=5432, host=15432, bind="::1"),
    )
    assert spec.mounts == (
        Mount(source=str(tmp_path / "w"), target="/w", read_only=True),
        Mount(source="/abs", target="/abs"),
        Mount(kind=MountKind.TMPFS, target="/tmp.d", size=64 * 2**20),
        Mount(kind=MountKind.VOLUME, source="data_1.x", target="/data"),
    )
    assert spec.resources == Resources(cpu=0.5, memory=2**30, pids=512, shm=64_000_000)
    assert spec.network == Network(mode=NetworkMode.ALLOWLIST, allow=("pypi.org",))
    assert spec.security == Security(
        read_only_root=True, cap_drop=("ALL",), cap_add=("NET_ADMIN", "KILL"), init=False,
        no_new_privileges=True, seccomp="default", user="1000",
    )  # fmt: skip
    assert spec.restart == "on-failure:3"
    assert spec.readiness == Readiness(
        path="/up", port="sql", expect=204, successes=2, interval=0.25, timeout=90.0
    )


def test_what_is_not_said_is_not_declared(tmp_path: Path) -> None:
    sandbox = one(tmp_path, "{}")

    assert sandbox.spec.canonical() == {}
    assert sandbox.spec.ports == ()
    assert sandbox.spec.readiness == Readiness()
    assert sandbox.backend == "process"


def test_every_canonical_path_has_its_place(tmp_path: Path) -> None:
    text = HEAD + "sandboxes:" + FULL + "    secrets: {T: {env: T, as: environment}}\n"
    sandbox = configured(tmp_path, text).desired.sandboxes[Address("box")]
    lines = text.splitlines()

    for path in sandbox.spec.canonical():
        assert path in sandbox.where or path.endswith((".host", ".bind", ".read_only")), path
        place = sandbox.at(path)
        above = [line for line in lines[: place.line] if re.match("    [a-z]", line)]
        assert above[-1].strip().startswith(path.partition(".")[0]), path
    place = sandbox.at("ports.sql.host")
    assert lines[place.line - 1][place.column - 1 :].startswith("15432")
    place = sandbox.at("mounts./w.source")
    assert lines[place.line - 1][place.column - 1 :].startswith("./w")
    for path, said in {
        "mounts./tmp.d.type": "tmpfs, target: /tmp.d",
        "mounts./tmp.d.size": "64Mi",
        "mounts./data.type": "volume",
        "mounts./data.source": "data_1.x",
        "security.cap_add": "[CAP_NET_ADMIN",
        "security.init": "false",
        "restart": "on-failure:3",
    }.items():
        place = sandbox.at(path)
        assert lines[place.line - 1][place.column - 1 :].startswith(said), path
    assert sandbox.at("environment.GONE").line == sandbox.at("environment").line
    assert str(sandbox.position) == "sandboxes.yaml:4:3"


def test_the_place_is_in_the_template_or_the_defaults_when_it_came_from_there(tmp_path: Path) -> None:
    text = (
        "defaults:\n  environment: {A: defaults}\n"
        "templates:\n  base:\n    environment: {B: base}\n  aio:\n    template: base\n    image: a\n"
        "sandboxes:\n  box:\n    template: aio\n    environment: {C: own}\n"
    )

    sandbox = desired(tmp_path, text).sandboxes[Address("box")]

    assert sandbox.spec.environment == {"A": "defaults", "B": "base", "C": "own"}
    assert {path: place.line for path, place in sandbox.where.items() if "." in path or path == "image"} == {
        "environment.A": 4, "environment.B": 7, "image": 10, "environment.C": 14,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("defaults", "template", "own", "path", "value"),
    [
        ("{image: d}", "{image: t}", "{image: o}", "image", "o"),
        ("{image: d}", "{image: t}", "{}", "image", "t"),
        ("{image: d}", "{}", "{}", "image", "d"),
        ("{environment: {A: d, B: d}}", "{environment: {B: t, C: t}}", "{environment: {C: o}}", "environment.B", "t"),
        ("{command: [a, b]}", "{}", "{command: [c]}", "command", '["c"]'),
        ("{network: {mode: allowlist, allow: [a]}}", "{}", "{network: {mode: open}}", "network.mode", "open"),
        ("{network: {mode: allowlist, allow: [a]}}", "{}", "{network: {name: n}}", "network.mode", "open"),
        ("{network: {name: n}}", "{}", "{network: {mode: isolated}}", "network.mode", "isolated"),
        ("{network: {name: n}}", "{}", "{network: {mode: open}}", "network.name", "n"),
        ("{restart: always}", "{restart: on-failure}", "{}", "restart", "on-failure"),
        ("{resources: {cpu: 1}}", "{resources: {cpu: 2}}", "{resources: {pids: 3}}", "resources.cpu", 2.0),
    ],
    ids=[
        "the sandbox wins", "the template wins over defaults", "defaults hold where nothing is said", "mappings merge",
        "lists replace", "another network mode drops the list", "a named network drops mode and list",
        "a mode that is not open drops the name", "the open mode keeps the name", "a template restarts",
        "mappings merge in depth",
    ],
)  # fmt: skip
def test_layers(tmp_path: Path, defaults: str, template: str, own: str, path: str, value: object) -> None:
    own = "{template: t" + (", " + own[1:-1] if own != "{}" else "") + "}"

    spec = one(tmp_path, own, above=f"defaults: {defaults}\ntemplates: {{t: {template}}}\n").spec

    assert spec.canonical()[path] == value


def test_another_kind_of_readiness_replaces_the_one_below(tmp_path: Path) -> None:
    spec = one(
        tmp_path, "{readiness: {tcp: http}}", above="defaults: {readiness: {http: /a, expect: 204, timeout: 5s}}\n"
    ).spec  # fmt: skip

    assert spec.readiness == Readiness(kind=ProbeKind.TCP, timeout=5.0)


def test_another_source_of_a_secret_replaces_the_one_below(tmp_path: Path) -> None:
    spec = one(
        tmp_path, "{secrets: {T: {env: B}}}", above="defaults: {secrets: {T: {file: a}, U: {env: C}}}\n"
    ).spec

    assert {name: ref.source for name, ref in spec.secrets.items()} == {"T": "env B", "U": "env C"}


@pytest.mark.parametrize(
    ("block", "addresses"),
    [
        ("{}", ["box"]),
        ("{replicas: 1}", ["box[0]"]),
        ("{replicas: 3}", ["box[0]", "box[1]", "box[2]"]),
        ("{replicas: 0}", []),
        ("{for_each: [eu, us]}", ['box["eu"]', 'box["us"]']),
        ("{for_each: {eu: 1, us: {a: 2}}}", ['box["eu"]', 'box["us"]']),
        ("{for_each: [no, 1.10]}", ['box["1.10"]', 'box["no"]']),
        ("{for_each: []}", []),
    ],
)
def test_addresses(tmp_path: Path, block: str, addresses: list[str]) -> None:
    assert list(desired(tmp_path, f"sandboxes: {{box: {block}}}\n").sandboxes) == addresses


def test_each_and_replica_fill_in(tmp_path: Path) -> None:
    fleet = desired(
        tmp_path,
        "sandboxes:\n"
        '  n: {replicas: 2, environment: {I: "${replica.index}", S: "${stack}"}}\n'
        '  l: {for_each: [eu], environment: {K: "${each.key}", V: "${each.value}"}}\n'
        '  m:\n    for_each: {eu: {cpu: 2, zone: {name: z1}}}\n    resources: {cpu: "${each.value.cpu}"}\n'
        '    environment: {Z: "in-${each.value.zone.name}"}\n',
    ).sandboxes

    assert [fleet[Address(f"n[{i}]")].spec.environment for i in (0, 1)] == [
        {"I": "0", "S": "s"}, {"I": "1", "S": "s"},
    ]  # fmt: skip
    assert fleet[Address('l["eu"]')].spec.environment == {"K": "eu", "V": "eu"}
    assert fleet[Address('m["eu"]')].spec.resources.cpu == 2.0
    assert fleet[Address('m["eu"]')].spec.environment == {"Z": "in-z1"}


def test_ten_thousand_replicas_share_one_spec_and_one_map_of_places(tmp_path: Path) -> None:
    fleet = desired(
        tmp_path,
        "variables: {n: {type: number, default: 10000}, image: {default: a}}\n"
        'sandboxes:\n  db: {}\n  box: {replicas: "${var.n}", image: "${var.image}", depends_on: [db]}\n',
    ).sandboxes
    boxes = [sandbox for sandbox in fleet.values() if sandbox.group == "box"]

    assert len(boxes) == 10_000
    assert len({id(box.spec) for box in boxes}) == 1
    assert len({id(box.where) for box in boxes}) == 1
    assert len({id(box.depends_on) for box in boxes}) == 1


def test_what_depends_on_the_replica_is_not_shared(tmp_path: Path) -> None:
    fleet = desired(
        tmp_path,
        'sandboxes: {box: {replicas: 2, mounts: [{source: "w/${replica.index}", target: "/w/${replica.index}"}]}}\n',
    ).sandboxes

    first, second = fleet.values()
    assert [mount.source for mount in second.spec.mounts] == [str(tmp_path / "w" / "1")]
    assert "mounts./w/0.source" in first.where
    assert "mounts./w/1.source" in second.where


def test_a_template_is_built_once_for_all_who_use_it(tmp_path: Path) -> None:
    fleet = desired(
        tmp_path,
        "templates: {t: {environment: {A: b}}}\nsandboxes: {a: {template: t}, b: {template: t}}\n",
    ).sandboxes

    assert len({id(sandbox.spec.environment) for sandbox in fleet.values()}) == 1


# --- dependencies and references ---------------------------------------------------------------------------------


def test_a_name_means_all_of_its_group_and_an_address_one(tmp_path: Path) -> None:
    fleet = desired(
        tmp_path,
        "sandboxes:\n  db: {replicas: 2}\n  region: {for_each: [eu]}\n  a: {depends_on: [db]}\n"
        '  b: {depends_on: ["db[1]", "region[\'eu\']"]}\n'
        '  c: {replicas: 2, depends_on: ["db[${replica.index}]"]}\n',
    ).sandboxes

    assert fleet[Address("a")].depends_on == ("db[0]", "db[1]")
    assert fleet[Address("b")].depends_on == ("db[1]", 'region["eu"]')
    assert fleet[Address("c[1]")].depends_on == ("db[1]",)


def test_a_reference_is_marked_and_makes_a_dependency(tmp_path: Path) -> None:
    fleet = desired(
        tmp_path,
        "sandboxes:\n  db: {ports: [{name: sql, container: 5432}]}\n  region: {for_each: [eu]}\n"
        '  a:\n    command: [run, "--id=${sandbox.db.id}"]\n    depends_on: [db]\n'
        '    environment:\n      URL: "${sandbox.region[\\"eu\\"].url}/x"\n      PORT: ${sandbox.db.ports.sql}\n'
        "      LITERAL: $${sandbox.db.url}\n",
    ).sandboxes

    a = fleet[Address("a")]
    assert a.spec.environment["URL"] == references.mark(Address('region["eu"]'), "url") + "/x"
    assert list(references.find(a.spec.environment["PORT"])) == [("db", "ports.sql")]
    assert a.spec.environment["LITERAL"] == "${sandbox.db.url}"
    assert a.spec.command == ("run", "--id=" + references.mark(Address("db"), "id"))
    assert set(a.references) == {"db", 'region["eu"]'}
    assert a.depends_on == ("db", 'region["eu"]')


def test_references_make_circles_too(tmp_path: Path) -> None:
    (problem,) = wrong(
        tmp_path,
        HEAD
        + 'sandboxes:\n  a: {environment: {B: "${sandbox.b.url}"}}\n  b: {depends_on: [c]}\n  c: {depends_on: [a]}\n',
    )

    assert "a → b → c → a" in problem.summary


def test_large_groups_that_wait_for_each_other_are_looked_at_once(tmp_path: Path) -> None:
    fleet = desired(
        tmp_path, "sandboxes:\n  a: {replicas: 4000}\n  b: {replicas: 4000, depends_on: [a]}\n  c: {depends_on: [b]}\n"
    ).sandboxes  # fmt: skip

    assert len(fleet[Address("b[3999]")].depends_on) == 4000
    assert len(fleet) == 8001


def test_outputs(tmp_path: Path) -> None:
    outputs = desired(
        tmp_path,
        "variables: {x: {default: y}}\nsandboxes: {box: {replicas: 1}}\n"
        'outputs: {url: "${sandbox.box[0].url}/${var.x}", n: 1.10, s: {value: v, sensitive: true}}\n',
    ).outputs

    assert outputs["url"].value == references.mark(Address("box[0]"), "url") + "/y"
    assert outputs["n"].value == "1.10"
    assert [name for name, output in outputs.items() if output.sensitive] == ["s"]


# --- settings ----------------------------------------------------------------------------------------------------


def test_without_backends_there_is_the_embedded_one(tmp_path: Path) -> None:
    assert desired(tmp_path, "").backends == {"process": BackendConfig(name="process", type="process")}


def test_backends_keep_their_options_with_secrets_by_reference_and_paths_absolute(tmp_path: Path) -> None:
    backends = desired(
        tmp_path,
        "variables: {url: {default: http://h}}\nbackends:\n"
        '  r: {type: remote, url: "${var.url}:8002", api_key: {env: KEY}, timeout: 5}\n'
        "  p: {type: process, root: boxes, isolation: none, x-why: because}\n"
        "  d: {type: docker, tls: {ca_cert: ca.pem, verify: true}}\n"
        "  own: {type: 'a.b:C', anything: [1, {b: c}], root: as/it/is}\n",
    ).backends

    assert backends["r"].options == {"url": "http://h:8002", "api_key": {"env": "KEY"}, "timeout": 5}
    assert backends["p"].options == {"root": str(tmp_path / "boxes"), "isolation": "none"}
    assert backends["d"].options == {"tls": {"ca_cert": str(tmp_path / "ca.pem"), "verify": True}}
    assert backends["own"] == BackendConfig(
        name="own", type="a.b:C", options={"anything": [1, {"b": "c"}], "root": "as/it/is"},
        position=backends["own"].position,
    )  # fmt: skip
    assert str(backends["own"].position) == "sandboxes.yaml:8:3"


def test_a_backend_with_a_key_in_clear_is_refused_without_showing_it(tmp_path: Path) -> None:
    (problem,) = wrong(tmp_path, HEAD + "backends: {r: {type: remote, url: 'http://h', api_key: hunter2}}\n")

    assert "hunter2" not in repr(problem)
    assert "env" in problem.fix


def test_the_only_backend_is_meant_and_named_ones_are_found(tmp_path: Path) -> None:
    assert one(tmp_path, "{}", above="backends: {only: {type: docker}}\n").backend == "only"
    two = "backends: {a: {type: docker}, b: {type: memory}}\n"
    assert one(tmp_path, "{}", above=two + "defaults: {backend: b}\n").backend == "b"
    assert one(tmp_path, '{backend: "${var.b}"}', above=two + "variables: {b: {default: a}}\n").backend == "a"


@pytest.mark.parametrize(
    ("state", "store"),
    [
        ("", StoreConfig()),
        ("state: {path: s/}\n", StoreConfig(options={"path": "s/"})),
        ("state: {store: file}\n", StoreConfig()),
        (
            "state: {store: postgres, url: {env: PG}, timeout: 3}\n",
            StoreConfig(type="postgres", options={"url": {"env": "PG"}, "timeout": 3}),
        ),
        ("state: {store: http, url: 'https://h'}\n", StoreConfig(type="http", options={"url": "https://h"})),
        (
            "state: {store: kubernetes, namespace: n, name: prod, versions: 5, timeout: 10s}\n",
            StoreConfig(
                type="kubernetes", options={"namespace": "n", "name": "prod", "versions": 5, "timeout": 10.0}
            ),
        ),
    ],
    ids=["none", "a path", "file", "postgres", "http", "kubernetes"],
)
def test_stores(tmp_path: Path, state: str, store: StoreConfig) -> None:
    assert desired(tmp_path, state).store == store


# --- the rest ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [("~/a", "/home/me/a"), ("~", "/home/me"), ("/a/../b/", "/b"), (r"C:\a", r"C:\a"), ("C:/a", "C:/a")],
)
def test_mount_sources(tmp_path: Path, path: str, expected: str) -> None:
    sandbox = one(tmp_path, f"{{mounts: [{{source: '{path}', target: /t}}]}}", environ={"HOME": "/home/me"})

    assert sandbox.spec.mounts[0].source == expected


@pytest.mark.parametrize(
    ("readiness", "ports", "expected"),
    [
        ("none", "[]", Readiness(kind=ProbeKind.NONE)),
        ("{timeout: 5}", "[]", Readiness(timeout=5.0)),
        ("{http: /a, port: http}", "[]", Readiness(path="/a")),
        ("{http: /a, port: http}", "[{name: http, container: 1}]", Readiness(path="/a", port="http")),
        ("{tcp: sql}", "[{name: sql, container: 5}]", Readiness(kind=ProbeKind.TCP, port="sql")),
        ("{tcp: 5}", "[{name: sql, container: 5}]", Readiness(kind=ProbeKind.TCP, port="sql")),
        ("{tcp: 8080}", "[]", Readiness(kind=ProbeKind.TCP)),
        ("{exec: [true, 1]}", "[]", Readiness(kind=ProbeKind.EXEC, command=("true", "1"))),
    ],
)
def test_readiness(tmp_path: Path, readiness: str, ports: str, expected: Readiness) -> None:
    assert one(tmp_path, f"{{readiness: {readiness}, ports: {ports}}}").spec.readiness == expected


def test_x_keys_are_free_everywhere(tmp_path: Path) -> None:
    fleet = desired(
        tmp_path,
        "x-a: [1]\nsandboxes:\n  x-notes: anything\n  box: {x-why: {because: 1}, resources: {x-b: 1, cpu: 1}}\n"
        "templates: {x-t: 1}\nbackends: {x-b: 1, p: {type: process}}\n",
    )

    assert list(fleet.sandboxes) == ["box"]
    assert list(fleet.backends) == ["p"]


def test_the_order_of_keys_changes_nothing(tmp_path: Path) -> None:
    data = {
        "version": 1, "stack": "s",
        "variables": {"a": {"default": "x"}, "b": {"type": "number", "default": 2}},
        "backends": {"one": {"type": "docker"}, "two": {"type": "process"}},
        "defaults": {"backend": "one", "labels": {"q": "1", "r": "2"}},
        "templates": {"t": {"image": "${var.a}"}, "u": {"template": "t", "runtime": "r"}},
        "sandboxes": {
            "c": {"template": "u", "replicas": "${var.b}", "environment": {"A": "1", "B": "${sandbox.d.url}"}},
            "d": {"for_each": None, "secrets": {"S": {"env": "S"}, "T": {"file": "f"}}},
        },
        "outputs": {"y": "1", "z": "2"},
    }  # fmt: skip
    del data["sandboxes"]["d"]["for_each"]  # type: ignore[index]

    def shuffled(value: object, rng: random.Random) -> object:
        if not isinstance(value, dict):
            return value
        keys = list(value)
        rng.shuffle(keys)
        return {key: shuffled(value[key], rng) for key in keys}

    def fleet(value: object) -> object:
        made = configured(tmp_path, json.dumps(value, indent=1)).desired
        return (
            [
                (a, s.spec, s.backend, s.depends_on, s.references, sorted(s.where))
                for a, s in made.sandboxes.items()
            ],
            [(b.name, b.type, b.options) for b in sorted(made.backends.values(), key=lambda b: b.name)],
            [(o.name, o.value) for o in made.outputs.values()],
            made.store,
        )

    first = fleet(data)
    for seed in range(10):
        assert fleet(shuffled(data, random.Random(seed))) == first


@pytest.mark.parametrize(
    ("sandboxes", "both"),
    [
        pytest.param(
            "  box: {replicas: 3, ports: [{name: a, container: 1, host: 5000}]}\n",
            "`box[0]` and `box[1]`",
            id="replicas, told once",
        ),
        pytest.param(
            "  box: {ports: [{name: a, container: 1, host: 5000}]}\n"
            "  car: {ports: [{name: b, container: 2, host: 5000}]}\n",
            "`box` and `car`",
            id="two groups",
        ),
    ],
)
def test_two_cannot_have_one_port_of_the_host(tmp_path: Path, sandboxes: str, both: str) -> None:
    [found] = wrong(tmp_path, HEAD + "sandboxes:\n" + sandboxes)

    assert (found.code, found.severity) == ("host-port", Severity.ERROR)
    assert both in found.summary
    assert "5000" in found.summary
    assert found.snippet[found.position.column - 1 :].startswith("5000")


@pytest.mark.parametrize(
    "port",
    [
        pytest.param("host: auto", id="the backend chooses"),
        pytest.param('host: "${each.value}"', id="a port of its own each"),
        pytest.param('host: 5000, bind: "127.0.1.${each.key}"', id="other addresses"),
    ],
)
def test_instances_may_publish_where_they_do_not_meet(tmp_path: Path, port: str) -> None:
    text = f'{{for_each: {{"1": 5000, "2": 5001}}, ports: [{{name: a, container: 1, {port}}}]}}'
    assert len(desired(tmp_path, f"sandboxes:\n  box: {text}\n").sandboxes) == 2


@pytest.mark.parametrize(
    ("said", "first"),
    [
        pytest.param("{}", False, id="nothing said"),
        pytest.param("{lifecycle: {}}", False, id="an empty lifecycle"),
        pytest.param("{lifecycle: {replace: destroy_first}}", False, id="destroy first"),
        pytest.param("{lifecycle: {replace: create_first}}", True, id="create first"),
        pytest.param('{lifecycle: {replace: "${var.order}"}}', True, id="by a variable"),
        pytest.param("{template: careful}", True, id="by a template"),
        pytest.param("{template: careful, lifecycle: {replace: destroy_first}}", False, id="over a template"),
        pytest.param('{replicas: 2, lifecycle: {replace: "${var.order}"}}', True, id="for all replicas"),
    ],
)
def test_which_comes_first_when_it_is_replaced(tmp_path: Path, said: str, first: bool) -> None:
    text = (
        "variables: {order: {default: create_first}}\n"
        "templates: {careful: {lifecycle: {replace: create_first}}}\n"
        f"sandboxes:\n  box: {said}\n"
    )

    made = desired(tmp_path, text).sandboxes.values()

    assert {sandbox.lifecycle.create_first for sandbox in made} == {first}


def test_the_place_of_the_replacement_order_is_known_and_it_is_no_part_of_the_specification(
    tmp_path: Path,
) -> None:
    sandbox = one(tmp_path, "{image: a, lifecycle: {replace: create_first}}")

    assert sandbox.at("lifecycle.replace").column > sandbox.at("lifecycle").column
    assert sandbox.spec.canonical() == {"image": "a"}


def test_a_replacement_order_that_a_variable_gets_wrong_is_told(tmp_path: Path) -> None:
    text = (
        'variables: {order: {default: sideways}}\nsandboxes:\n  box: {lifecycle: {replace: "${var.order}"}}\n'
    )
    [found] = wrong(tmp_path, HEAD + text)

    assert "create_first" in f"{found.summary} {found.fix}"


def test_independent_problems_are_all_told_and_none_follows_from_another(tmp_path: Path) -> None:
    found = wrong(
        tmp_path,
        HEAD
        + "variables: {v: {type: strng}}\n"
        + "backends: {local: {type: dokcer}}\n"
        + "templates: {t: {imgae: a}}\n"
        + "sandboxes:\n"
        + "  a: {template: t, backend: local, image: '${var.v}', ports: [{name: 1}]}\n"
        + "  b: {backend: remote, environment: {U: '${sandbox.a.url}', V: '${sandbox.a.ports.x}'}}\n"
        + "  Bad: {}\n"
        + "  c: {replicas: many, depends_on: [Bad, nobody]}\n"
        + "  d: {depends_on: [c, 'c[7]'], image: '${var.w}', runtime: '${env.NOT}'}\n",
    )

    assert [(item.position.line, item.code) for item in found if item.position] == [
        (3, "wrong-value"), (4, "wrong-value"), (5, "unknown-key"),
        (7, "missing-key"), (7, "wrong-type"),
        (8, "unknown-backend"),
        (9, "bad-name"),
        (10, "wrong-value"), (10, "unknown-sandbox"),
        (11, "unknown-variable"), (11, "unset-environment"),
    ]  # fmt: skip


def test_files_and_directory_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, HEAD)
    monkeypatch.chdir(tmp_path)

    fleet = configure(directory=Path(), environ={}).desired

    assert (fleet.directory, fleet.files) == (str(tmp_path), (str(tmp_path / "sandboxes.yaml"),))


def test_nobody_is_asked_about_a_file_that_is_wrong_anyway(tmp_path: Path) -> None:
    write(tmp_path, HEAD + "variables: {a: {}}\nzzz: 1\n")

    def ask(name: str, sensitive: bool) -> str:
        raise AssertionError("asked")

    with pytest.raises(ConfigError, match="2 errors"):
        configure(directory=tmp_path, environ={}, ask=ask)


def test_a_bad_part_behind_an_alias_is_told_once_and_taken_out_once(tmp_path: Path) -> None:
    found = wrong(
        tmp_path,
        HEAD + "x-p: &p [{name: a}, {name: b, container: 1}]\n"
        "sandboxes:\n  one: {ports: *p}\n  two: {ports: *p, environment: {U: '${sandbox.nobody.url}'}}\n",
    )

    assert [(item.code, item.position and item.position.line) for item in found] == [
        ("missing-key", 3), ("unknown-sandbox", 6),
    ]  # fmt: skip


def test_a_thousand_errors_are_enough(tmp_path: Path) -> None:
    found = wrong(tmp_path, HEAD + "".join(f"key{n}: 1\n" for n in range(5_000)))

    assert len(found) == 1_001
    assert found[-1].code == "more"


def test_paths_of_encryption_keys_are_relative_to_the_file_that_says_them(tmp_path: Path) -> None:
    (tmp_path / "conf.yaml").write_text(
        "version: 1\nstack: s\nstate:\n  encryption:\n    key: {file: new.key}\n"
        "    fallback_keys: [{env: OLD}, {file: ./old.key}, {command: [vault, old.key]}]\n"
    )
    found = configure(paths=[Path("conf.yaml")], directory=tmp_path, environ={}).desired.store.options
    assert found["encryption"] == {
        "key": {"file": str(tmp_path / "new.key")},
        "fallback_keys": [
            {"env": "OLD"},
            {"file": str(tmp_path / "old.key")},
            {"command": ["vault", "old.key"]},
        ],
    }
