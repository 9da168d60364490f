"""What `reconciler init` writes: a commented configuration that is valid as it stands.

Holds texts and the rules for a stack's name; touches no file.
"""

from __future__ import annotations

import re

CONFIG_NAME = "sandboxes.yaml"
SCHEMA_NAME = ".reconciler/config.v1.schema.json"
IGNORED = "state/"

_HEAD = """\
# yaml-language-server: $schema={schema}
# What your sandboxes should be. `reconciler plan` shows what would change, `reconciler apply` makes it so.
version: 1
stack: {stack} # owner name on every sandbox, and the name of its state

{backends}
defaults:
  backend: local
  readiness: {{http: /v1/sandbox, timeout: 60s}} # a sandbox is done when this answers 200

sandboxes:
"""
_TEMPLATE = (
    _HEAD
    + """\
  researcher:
    replicas: 2 # researcher[0] and researcher[1]
{image}    environment:
      LOG_LEVEL: info
      INDEX: "${{replica.index}}"
    # secrets: {{API_TOKEN: {{env: API_TOKEN}}}} # never in state, plan or log
{hints}    # depends_on: [db]

outputs:
  url: "${{sandbox.researcher[0].url}}"
"""
)
_GIVEN = (
    _HEAD
    + """\
  researcher: {{}} # recorded and waited for, never created

outputs:
  url: "${{sandbox.researcher.url}}"
"""
)

_BACKENDS = {
    "process": """\
backends:
  local: {type: process} # processes on this machine, no engine needed
""",
    "docker": """\
backends:
  local: {type: docker} # the engine that the `docker` command talks to
""",
    "kubernetes": """\
backends:
  local: {type: kubernetes, namespace: sandboxes, create_namespace: true} # the cluster that `kubectl` talks to
""",
    "remote": """\
backends:
  local: {type: remote, url: "http://127.0.0.1:8002", api_key: {env: PROVISIONER_API_KEY}}
""",
    "url": """\
backends:
  local: {type: url, url: "http://127.0.0.1:8080"} # a sandbox that somebody else runs
""",
}
_HINTS = """\
    # resources: {memory: 1Gi}
"""
_CONTAINER_HINTS = """\
    # resources: {cpu: 2, memory: 4Gi, pids: 1024, shm: 2Gi} # a browser inside needs the shared memory
    # ports: [{name: http, container: 8080, host: auto}] # a free port of 127.0.0.1; or a number, for one sandbox alone
    # mounts: [{source: ./workspace, target: /mnt/user-data}, {type: tmpfs, target: /scratch, size: 256Mi}]
    # security: {cap_add: [NET_BIND_SERVICE], user: "1000"} # no capability, no new privileges and an init without it
    # network: {name: NETWORK} # one of the engine's; an internal one lets nothing out
    # restart: unless-stopped # without it only `apply` starts a sandbox again
"""
_CLUSTER_HINTS = """\
    # resources: {cpu: 2, memory: 4Gi, shm: 2Gi} # requests and limits alike
    # mounts: [{type: volume, source: CLAIM, target: /mnt/user-data}, {type: tmpfs, target: /scratch, size: 256Mi}]
    # security: {cap_add: [NET_BIND_SERVICE], user: "1000"} # no capability and no new privileges without it
    # network: {mode: allowlist, allow: [10.0.0.0/8]} # a NetworkPolicy, which speaks of addresses
    # runtime: gvisor # a RuntimeClass of the cluster
    # restart: always # without it only `apply` starts a sandbox again
"""
_WITHOUT_IMAGE = ("process", "memory", "remote")
_IMAGE = "    image: ghcr.io/agent-infra/sandbox:latest\n"


def starter(stack: str, backend: str) -> str:
    """The file's text for a stack name and a backend type."""
    block = _BACKENDS.get(backend, f"backends:\n  local: {{type: {backend}}}\n")
    image = "" if backend in _WITHOUT_IMAGE else _IMAGE
    hints = {"docker": _CONTAINER_HINTS, "kubernetes": _CLUSTER_HINTS}.get(backend, _HINTS)
    template = _GIVEN if backend == "url" else _TEMPLATE
    return template.format(schema=SCHEMA_NAME, stack=stack, backends=block, image=image, hints=hints)


def stack_name(folder: str) -> str:
    """A valid stack name made of a folder's: lower case, dashes, at most 40 characters, beginning with a letter."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-")
    name = re.sub(r"^[^a-z]+", "", name)[:40].strip("-")
    return name or "sandboxes"


def with_ignored(text: str) -> str | None:
    """The `.gitignore` with our entry added; None when it is there already."""
    if any(line.strip().rstrip("/").lstrip("/") == IGNORED.rstrip("/") for line in text.splitlines()):
        return None
    gap = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{gap}# reconciler: what was last applied; holds no secrets, and is no use on another machine\n{IGNORED}\n"
