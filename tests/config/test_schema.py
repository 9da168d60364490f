"""The schema is the one source of truth: documented key by key, valid, and in step with the code."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from reconciler.config.fields import FIELDS
from reconciler.config.schema import config_schema
from reconciler.config.schemas import schema_names, schema_text
from reconciler.errors import ReconcilerError
from reconciler.model.address import Address
from reconciler.model.lifecycle import DriftPolicy
from tests.config.written import configured

SCHEMA = config_schema()

# The language as the product describes it, whole: every key once.
LANGUAGE = """\
# yaml-language-server: $schema=../schemas/config.v1.schema.json
version: 1
stack: research

variables:
  image: {type: string, default: "ghcr.io/agent-infra/sandbox:latest"}
  token: {type: string, sensitive: true}

state: {store: file, path: state/}

backends:
  local:   {type: docker}
  cluster: {type: kubernetes, namespace: sandboxes, context: prod, api: pod}
  remote:  {type: remote, url: "http://provisioner:8002", api_key: {env: PROVISIONER_API_KEY}}

defaults:
  backend: local
  readiness: {http: /v1/sandbox, timeout: 60s}

templates:
  aio:
    image: ${var.image}
    resources: {cpu: 1, memory: 1Gi, pids: 512}

sandboxes:
  db: {template: aio}
  researcher:
    template: aio
    replicas: 3
    environment: {LOG_LEVEL: info, INDEX: "${replica.index}"}
    secrets: {API_TOKEN: {env: API_TOKEN}}
    ports: [{name: http, container: 8080}]
    mounts:
      - {source: ./workspace, target: /mnt/user-data, read_only: false}
      - {type: volume, source: data, target: /data}
      - {type: tmpfs, target: /scratch, size: 64Mi}
    network: {mode: open, name: agents}
    security:
      read_only_root: false
      cap_drop: [ALL]
      cap_add: [NET_ADMIN]
      init: true
      no_new_privileges: true
      seccomp: default
      user: "1000"
    runtime: runsc
    restart: unless-stopped
    thread_id: t-42
    labels: {team: search}
    depends_on: [db]
    readiness: {http: /v1/sandbox, port: http, expect: 200, successes: 1, interval: 250ms, timeout: 60s}
    lifecycle:
      prevent_destroy: false
      replace: destroy_first
      ignore_changes: [environment.LOG_LEVEL]
      replace_triggered_by: ["sandbox.db"]
      max_lifetime: 8h
    rollout: {max_unavailable: 1, min_healthy: 0s, canary: 1, auto_revert: false}
    drift: correct
  region:
    template: aio
    for_each: [eu, us]
    environment: {REGION: "${each.key}"}

moved:   [{from: old, to: researcher}]
removed: [{from: legacy, destroy: false}]
imports: [{to: "researcher[0]", id: deer-flow-sandbox-ab12cd34}]
policy:  {max_destroy: 5, max_destroy_percent: 20, max_drift_percent: 50, protected: [db, "label:team=search"]}
outputs: {url: "${sandbox.researcher[0].url}"}
"""


def test_the_whole_language_expands(tmp_path: Path) -> None:
    made = configured(tmp_path, LANGUAGE, var=["token=hush"])

    assert sorted(made.desired.sandboxes) == [
        "db", 'region["eu"]', 'region["us"]', "researcher[0]", "researcher[1]", "researcher[2]",
    ]  # fmt: skip
    assert {sandbox.backend for sandbox in made.desired.sandboxes.values()} == {"local"}


@pytest.mark.parametrize("policy", ["correct", "report", "ignore"])
def test_each_drift_policy_is_read(tmp_path: Path, policy: str) -> None:
    made = configured(tmp_path, LANGUAGE.replace("drift: correct", f"drift: {policy}"), var=["token=hush"])

    assert {made.desired.sandboxes[Address("researcher[0]")].drift} == {DriftPolicy(policy)}
    assert {made.desired.sandboxes[Address("db")].drift} == {DriftPolicy.CORRECT}


def test_it_is_a_valid_schema() -> None:
    jsonschema_rs.meta.validate(dict(SCHEMA))


def keys(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key that a user may write, with its schema node."""
    if isinstance(schema, dict):
        for name, kid in schema.get("properties", {}).items():
            if "if" not in path.rpartition("/")[2]:
                yield f"{path}/{name}", kid
        for name, kid in schema.items():
            if name == "if":
                continue  # a condition, not a description
            yield from keys(kid, f"{path}/{name}")
    elif isinstance(schema, list):
        for index, kid in enumerate(schema):
            yield from keys(kid, f"{path}/{index}")


def test_every_key_says_what_it_is() -> None:
    bare = []
    for path, kid in keys(dict(SCHEMA)):
        target = kid
        if "$ref" in kid and "description" not in kid:
            target = SCHEMA["$defs"][kid["$ref"].rpartition("/")[2]]
        if not target.get("title") or not target.get("description"):
            bare.append(path)
    assert bare == []


def test_nothing_but_free_keys_is_let_through() -> None:
    open_ones = []

    def look(schema: Any, path: str) -> None:
        if isinstance(schema, dict):
            closed = schema.get("additionalProperties") is False or "allOf" in schema or path.endswith("/if")
            if "properties" in schema and not closed:
                open_ones.append(path)
            for name, kid in schema.items():
                look(kid, f"{path}/{name}")
        elif isinstance(schema, list):
            for index, kid in enumerate(schema):
                look(kid, f"{path}/{index}")

    look(dict(SCHEMA), "")
    assert [path for path in open_ones if not path.endswith("/properties")] == []


def test_every_example_of_the_schema_is_valid() -> None:
    checked = 0
    for name, node in SCHEMA["$defs"].items():
        for example in node.get("examples", ()):
            validator = jsonschema_rs.Draft202012Validator(
                {"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]}
            )
            assert validator.is_valid(example), (name, example)
            checked += 1
    for example in SCHEMA["examples"]:
        assert jsonschema_rs.Draft202012Validator(dict(SCHEMA)).is_valid(example)
    assert checked > 20


def test_every_key_of_a_sandbox_is_built() -> None:
    said = set(SCHEMA["$defs"]["sandbox"]["properties"])
    handled = set(FIELDS) | {"template", "replicas", "for_each", "backend", "secrets", "depends_on"}

    assert handled == said


@pytest.mark.parametrize("kind", ["process", "memory", "docker", "apple"])
def test_every_option_of_a_backend_reaches_its_constructor(kind: str) -> None:
    said = set(SCHEMA["$defs"][f"{kind}Backend"]["properties"]) - {"type"}
    module = __import__(f"reconciler.backends.{kind}", fromlist=["x"])
    made = getattr(module, f"{kind.title()}Backend")

    assert said - set(inspect.signature(made).parameters) == set()


def test_templates_and_defaults_take_what_sandboxes_take() -> None:
    sandbox = set(SCHEMA["$defs"]["sandbox"]["properties"])

    assert set(SCHEMA["$defs"]["templateBlock"]["properties"]) == sandbox - {"replicas", "for_each"}
    assert set(SCHEMA["$defs"]["defaults"]["properties"]) == sandbox - {"replicas", "for_each", "template"}


@pytest.mark.parametrize("name", ["audit", "config", "state", "plan", "event", "notification"])
def test_schemas_are_found_by_name(name: str) -> None:
    assert name in schema_names()
    assert json.loads(schema_text(name))["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize("name", ["nothing", "../schemas/config", ""])
def test_an_unknown_schema_is_said(name: str) -> None:
    with pytest.raises(ReconcilerError, match="there is no schema"):
        schema_text(name)
