"""What is wrong with a file is said at the exact place, in plain words, once for each cause."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.written import HEAD, wrong

# The text, with ‸ where the error must point; words of the message; words of the fix. Below HEAD unless `whole`.
BOX = "sandboxes:\n  box:\n    "

SYNTAX = {
    "a tab as indentation": ("sandboxes:\n‸\tbox: {}\n", "tab character", "spaces"),
    "a list that is never closed": ("sandboxes: {box: {command: [a, b‸}\n", "brackets is not closed", "close it"),
    "a quote that is never closed": ("x-a: ‸'abc\nx-b: 1\n", "never closed", "closing quote"),
    "a colon too many": ("x-a: b‸: c\n", "`:` is not expected", "quotes"),
    "an at sign as the first character": ("x-a: ‸@home\n", "`@` cannot begin a value", "quotes"),
    "an unquoted interpolation in brackets": (BOX + "environment: {A: ‸${stack}}\n", "must be in quotes", "${…}"),
    "a wrong escape": ('x-a: "‸\\q"\n', "no such escape", "backslash"),
    "an indentation between two others": ("x-a:\n    b: 1\n  ‸c: 2\n", "does not fit the mapping", "line the key up"),
    "a list on the line of its key": ("x-a: ‸- b\n", "cannot begin on this line", "next line"),
    "a line without a colon": ("‸x-a\nx-b: 1\n", "a key without `:`", "`key: value`"),
    "a second document": ("‸---\nx-b: 1\n", "second YAML document", "`---`"),
    "an alias without an anchor": ("x-a: ‸*nothing\n", "no anchor `&nothing`", "define"),
    "an alias to the value it stands in": ("x-a: &a\n  b: [‸*a]\n", "contains itself", "remove the alias"),
    "a Python tag": ("x-a: ‸!!python/object:os.system {}\n", "tag", "remove the tag"),
    "a tag of one's own": ("x-a: ‸!secret b\n", "the tag `!secret`", "remove the tag"),
    "a mapping as a key": ("x-a:\n  ‸{b: 1}: c\n", "a key must be text", "quote"),
    "a NUL in an escape": ('x-a: ‸"a\\0b"\n', "NUL", "remove the escape"),
    "a control character": ("x-a: b‸\x07c\n", "control character (U+0007)", "remove it"),
    "a merge key with a list of words": ("x-a:\n  <<: [‸b]\n", "`<<` takes a mapping", "anchor"),
    "brackets nested too deep": ("x-a: " + "[" * 63 + "‸[" + "]" * 64 + "\n", "nested more than 64", "flatten"),
}  # fmt: skip
KEYS = {
    "the same key twice": ("sandboxes:\n  box:\n    image: a\n    ‸image: b\n", "`image` is here twice", "remove one"),
    "the same sandbox twice": ("sandboxes:\n  box: {}\n  ‸box: {}\n", "`box` is here twice", "remove one"),
    "a misspelt top-level key": ("‸sandboxs: {}\n", "unknown key `sandboxs`", "`sandboxes`"),
    "a misspelt key of a sandbox": (BOX + "‸imgae: a\n", "unknown key `imgae`", "did you mean `image`"),
    "the word of another tool": (BOX + "‸volumes: []\n", "unknown key `volumes`", "`mounts`"),
    "a key one level too high": (BOX + "‸memory: 1Gi\n", "unknown key `memory`", "under `resources`"),
    "a limit by another tool's name": (BOX + "‸cpus: 1\n", "unknown key `cpus`", "resources: {cpu"),
    "a key nobody knows": (BOX + "‸zzz: 1\n", "unknown key `zzz`", "x-"),
    "a port without its number": (BOX + "ports: [‸{name: http}]\n", "`container` is missing", "add `container"),
    "a port's name misspelt": (BOX + "ports: [{‸nam: http, container: 1}]\n", "unknown key `nam`", "`name`"),
    "a sandbox with capitals": ("sandboxes:\n  ‸Box: {}\n", "not a sandbox's name", "lower case"),
    "a variable of the environment with a dash": (BOX + "environment: {‸A-B: c}\n", "not a variable's name", "letters"),
    "an unknown option of a backend": ("backends: {k: {type: kubernetes, ‸namspace: n}}\n", "`namspace`", "`namespace`"),
    "a remote backend without its address": ("backends: {r: ‸{type: remote}}\n", "`url` is missing", "URL"),
    "a backend without its type": ("backends: {r: ‸{url: a}}\n", "`type` is missing", "add `type"),
}  # fmt: skip

VALUES = {
    "a version of the future": ("¤version: ‸2\nstack: s\n", "`version` must be 1", "write `1`"),
    "no stack": ("¤‸version: 1\n", "`stack` is missing", "add `stack"),
    "a stack with a space": ("¤version: 1\nstack: ‸My Stack\n", "`stack` must be a name", "research"),
    "a list instead of sandboxes": ("sandboxes: ‸[a]\n", "must be a mapping, not a list", "mapping"),
    "more memory than there is": (BOX + "resources: {memory: ‸99999999999999999999Gi}\n", "`memory` must be a size", "too much"),
    "a version in quotes": ('¤version: ‸"1"\nstack: a\n', 'not `"1"`', "remove the quotes: `version: 1`"),
    "a sandbox's key beside it": ("sandboxes:\n  box:\n  replicas: ‸2\n", "must be a mapping", "indent it further"),
    "a sandbox that is a word": ("sandboxes:\n  box: ‸yes\n", "`box` must be a mapping", "write"),
    "nothing behind a key": (BOX + "image:‸\n", "not empty", "write a value"),
    "a version number as an image": (BOX + "image: ‸1.10\n", "`image` must be an image", 'quotes: `image: "1.10"`'),
    "an empty image": (BOX + 'image: ‸""\n', "`image` must be", "write"),
    "yes for true": (BOX + "security: {read_only_root: ‸yes}\n", "true or false, not `yes`", "`read_only_root: true`"),
    "off for false": (BOX + "mounts: [{source: a, target: /b, read_only: ‸off}]\n", "true or false", "false"),
    "an octal number": (BOX + "resources: {pids: ‸0755}\n", "whole number", "octal"),
    "a number in sixties": (BOX + "ports: [{name: a, container: ‸22:22}]\n", "whole number", "sixties"),
    "a number with underscores": (BOX + "resources: {pids: ‸1_000}\n", "whole number", "`pids: 1000`"),
    "a variable that is text, for a number": (
        "variables: {n: {default: 2}}\nsandboxes: {box: {resources: {pids: ‸\"${var.n}\"}}}\n", "whole number", "`n: {type: number, …}`",
    ),
    "a variable that is text, for true": (
        "variables: {b: {default: true}}\nsandboxes: {box: {security: {read_only_root: ‸\"${var.b}\"}}}\n", "true or false", "`b: {type: bool, …}`",
    ),
    "a misspelt count of replicas, and nothing that follows from it": (
        'sandboxes:\n  box:\n    ‸replicsa: 2\n    environment: {I: "${replica.index}"}\noutputs: {u: "${sandbox.box[0].url}"}\n', "unknown key `replicsa`", "`replicas`",
    ),
    "what others call replicas, and nothing that follows from it": (
        'sandboxes:\n  box:\n    ‸count: 2\n    environment: {I: "${replica.index}"}\noutputs: {u: "${sandbox.box[0].url}"}\n', "unknown key `count`", "`replicas`",
    ),
    "a misspelt for_each, and nothing that follows from it": (
        'sandboxes:\n  box:\n    ‸for_eahc: [a]\n    environment: {I: "${each.key}"}\noutputs: {u: "${sandbox.box[\\"a\\"].url}"}\n', "unknown key `for_eahc`", "`for_each`",
    ),
    "a wrong count of replicas, and nothing that follows from it": (
        'sandboxes:\n  box:\n    replicas: ‸many\n    environment: {I: "${replica.index}"}\noutputs: {u: "${sandbox.box[0].url}"}\n', "`replicas` must be", "whole number",
    ),
    "a number in quotes": (BOX + 'replicas: ‸"3"\n', "whole number", "remove the quotes"),
    "a fraction of a replica": (BOX + "replicas: ‸1.5\n", "whole number", "write"),
    "infinitely many replicas": (BOX + "replicas: ‸.inf\n", "whole number", "write"),
    "a port out of range": (BOX + "ports: [{name: a, container: ‸70000}]\n", "65535", "write"),
    "a negative cpu": (BOX + "resources: {cpu: ‸-1}\n", "number of cores", "cpu: 1"),
    "a size without sense": (BOX + "resources: {memory: ‸1 gig}\n", "a size such as", "memory: 1Gi"),
    "a duration without sense": (BOX + "readiness: {timeout: ‸soon}\n", "a duration such as", "60s"),
    "a misspelt network mode": (BOX + "network: {mode: ‸opne}\n", "`open`, `isolated`", "did you mean `open`"),
    "a misspelt drift policy": (BOX + "drift: ‸ignroe\n", "`drift` must be", "did you mean `ignore`"),
    "a misspelt backend type": ("backends: {a: {type: ‸dokcer}}\n", "`type` must be", "did you mean `docker`"),
    "an encryption without a key": ("state: {encryption: ‸{}}\n", "`key`, `fallback_keys` or both", "for example"),
    "an encryption key in clear": ("state: {encryption: {key: ‸hunter2}}\n", "exactly one of `env`, `file` or `command`", "write a mapping"),
    "an encryption of memory": ("state: {store: memory, ‸encryption: {key: {env: K}}}\n", "unknown key `encryption`", "remove it"),
    "a misspelt store": ("state: {store: ‸postgress}\n", "`store` must be", "did you mean `postgres`"),
    "a word where a list belongs": (BOX + "command: ‸serve\n", "list of words", "`command: [serve]`"),
    "a list where a mapping belongs": (BOX + "environment: ‸[A=b]\n", "`environment` must be a mapping", "LOG_LEVEL"),
    "a list as a variable's value": (BOX + "environment: {A: ‸[b]}\n", "`A` must be text, not a list", "text"),
    "a relative mount target": (BOX + "mounts: [{source: a, target: ‸b}]\n", "absolute path", "/mnt"),
    "a thread with a slash": (BOX + "thread_id: ‸a/b\n", "`thread_id` must be", "t-42"),
    "a secret from two places": (BOX + "secrets: {T: ‸{env: A, file: b}}\n", "exactly one of", "give exactly one"),
    "a secret from nowhere": (BOX + "secrets: {T: ‸{}}\n", "exactly one of", "give exactly one"),
    "replicas and for_each together": ("sandboxes:\n  box: ‸{replicas: 1, for_each: [a]}\n", "only one of", "give only"),
    "an unknown type of variable": ("variables: {a: {type: ‸strng, default: b}}\n", "`type` must be", "`string`"),
    "an address that is no IP address": (BOX + "ports: [{name: a, container: 1, bind: ‸1.2.3}]\n", "IP address", "127"),
}  # fmt: skip

MEANINGS = {
    "an undeclared variable": ("variables: {image: {default: a}}\n" + BOX + "image: ‸${var.imgae}\n", "no variable `imgae`", "`image`"),
    "a variable without a value": ("variables:\n  image: ‸{type: string}\n", "no value", "--var image="),
    "a default with an interpolation": ("variables: {a: {default: ‸\"${stack}\"}}\n", "cannot hold", "write the value out"),
    "an unset variable of the environment": (BOX + "image: ‸${env.NOT_SET}\n", "not set", ":-default"),
    "an interpolation nobody knows": (BOX + "image: ‸${image}\n", "not an interpolation", "${var.x}"),
    "an interpolation without an end": (BOX + "image: ‸a${var.x\n", "not closed", "$${"),
    "interpolations in each other": (BOX + "image: ‸${var.${stack}}\n", "not closed", "without another inside"),
    "an index without replicas": (BOX + 'environment: {I: ‸"${replica.index}"}\n', "no meaning here", "replicas"),
    "each without for_each": (BOX + 'environment: {I: ‸"${each.key}"}\n', "no meaning here", "for_each"),
    "a list inside a text": ("variables: {l: {type: list, default: [a]}}\n" + BOX + "image: ‸x${var.l}\n", "is a list", ""),
    "a number that turns out to be a word": ("variables: {n: {default: many}}\n" + BOX + "replicas: ‸${var.n}\n", "whole number", "write"),
    "a word that turns out to be a list": ("variables: {l: {type: list, default: [a]}}\n" + BOX + "image: ‸${var.l}\n", "image reference", ""),
    "a sensitive variable in the open": (
        "variables: {t: {sensitive: true, default: hush}}\n" + BOX + 'environment: {T: ‸"${var.t}"}\n',
        "is sensitive", "secrets: {NAME: {value:",
    ),
    "an unknown template": ("templates: {aio: {}}\n" + BOX + "template: ‸aoi\n", "no template `aoi`", "`aio`"),
    "templates in a circle": ("templates:\n  a: {template: b}\n  b: {template: ‸a}\n", "circle: a → b → a", "remove"),
    "an unknown backend": ("backends: {local: {type: docker}}\n" + BOX + "backend: ‸locl\n", "no backend `locl`", "`local`"),
    "no backend of several": ("backends: {a: {type: docker}, b: {type: docker}}\nsandboxes:\n  ‸box: {}\n", "which backend", "`a` or `b`"),
    "an unknown dependency": (BOX + "depends_on: [‸db]\n", "no sandbox `db`", "choose one of `box`"),
    "an index of one sandbox": ("sandboxes:\n  db: {}\n  box: {depends_on: [‸\"db[0]\"]}\n", "is one sandbox", "without brackets"),
    "a replica too many": ("sandboxes:\n  db: {replicas: 2}\n  box: {depends_on: [‸\"db[2]\"]}\n", "no sandbox `db[2]`", "`db[0]` or `db[1]`"),
    "a reference to a group": ("sandboxes:\n  db: {replicas: 2}\n  box: {environment: {U: ‸\"${sandbox.db.url}\"}}\n", "group with `replicas`", "`db[0]`"),
    "a reference to an undeclared sandbox": (BOX + 'environment: {U: ‸"${sandbox.bo.url}"}\n', "no sandbox `bo`", "`box`"),
    "a reference to an undeclared port": (
        "sandboxes:\n  db: {ports: [{name: sql, container: 1}]}\n  box: {environment: {U: ‸\"${sandbox.db.ports.sq}\"}}\n",
        "declares no port `sq`", "`sql`",
    ),
    "a reference to an unknown attribute": (BOX + 'environment: {U: ‸"${sandbox.box.ip}"}\n', "not a reference", ".url"),
    "a reference in an image": ("sandboxes:\n  db: {}\n  box: {image: ‸\"${sandbox.db.id}\"}\n", "only allowed in `environment`", "write the value out"),
    "sandboxes in a circle": ("sandboxes:\n  a: {depends_on: ‸[b]}\n  b: {depends_on: [a]}\n", "circle: a → b → a", "remove one"),
    "a sandbox that waits for itself": (BOX + "depends_on: ‸[box]\n", "`box` waits for itself", "remove one"),
    "a key of for_each twice": (BOX + "for_each: [eu, ‸eu]\n", "`eu` is in `for_each` twice", "remove one"),
    "a key of for_each with a bracket": (BOX + 'for_each: [‸"a]"]\n', "cannot be a key", "without quotes"),
    "a name that is secret and open": (
        BOX + "environment: {T: a}\n    secrets: {‸T: {env: A}}\n", "in `secrets` and in `environment`", "remove it",
    ),
    "a port's name twice": (
        BOX + "ports: [{name: a, container: 1}, {name: ‸a, container: 2}]\n", "`a` is here twice", "rename",
    ),
    "a mount's target twice": (
        BOX + "mounts: [{source: a, target: /x}, {source: b, target: ‸/x/}]\n", "have the target `/x`", "remove",
    ),
    "a probe of an undeclared port": (BOX + "readiness: {tcp: ‸sql}\n", "no port `sql`", "declare it"),
    "two kinds of readiness": (BOX + "readiness: {http: /a, tcp: ‸http}\n", "cannot both", "keep one"),
    "a status for a TCP probe": (BOX + "readiness: {tcp: http, expect: ‸200}\n", "no meaning with `tcp`", "remove"),
    "an allow list without its mode": (BOX + "network: {mode: open, allow: ‸[a]}\n", "mode: allowlist", "remove `allow`"),
    "an allowlist of nothing said": (BOX + "network: {mode: ‸allowlist}\n", "needs `allow`", "isolated"),
    "a drift policy that is none": (BOX + "drift: ‸repair\n", "`correct`, `report` or `ignore`", "report"),
    "a home nobody has": (BOX + "mounts: [{source: ‸~/a, target: /a}]\n", "HOME is not set", "write the path out"),
}  # fmt: skip

CONTAINERS = {
    "a misspelt type of mount": (BOX + "mounts: [{type: ‸volum, source: a, target: /b}]\n", "`type` must be", "did you mean `volume`"),
    "a bind without its source": (BOX + "mounts: [‸{target: /b}]\n", "`source` is missing from entry 1", "a path on the host"),
    "a volume without its name": (
        BOX + "mounts: [{type: tmpfs, target: /a}, ‸{type: volume, target: /b}]\n", "missing from entry 2", "the name of a volume",
    ),
    "a volume that is a path": (BOX + "mounts: [{type: volume, source: ‸./a, target: /b}]\n", "`./a` is not the name", "`type: bind`"),
    "a tmpfs with a source": (BOX + "mounts: [{type: tmpfs, source: ‸a, target: /b}]\n", "tmpfs has no `source`", "remove `source`"),
    "a bind with a size": (BOX + "mounts: [{source: a, target: /b, size: ‸1Mi}]\n", "`type: tmpfs` alone", "remove `size`"),
    "a tmpfs of no size": (BOX + "mounts: [{type: tmpfs, target: /b, size: ‸0}]\n", "`size` must be a size", "size: 1Gi"),
    "a mount without its target": (BOX + "mounts: [‸{source: a}]\n", "`target` is missing", "add `target"),
    "one target in two ways": (
        BOX + "mounts: [{type: tmpfs, target: /x/y}, {type: tmpfs, target: ‸/x/./y}]\n", "have the target `/x/y`", "remove",
    ),
    "a named network that is isolated": (BOX + "network: {mode: isolated, name: ‸n}\n", "exclude each other", "remove one"),
    "a named network with an allow list": (
        BOX + "network: {mode: allowlist, allow: [a], name: ‸n}\n", "`mode: allowlist` exclude each other", "remove one",
    ),
    "an allow list of a named network": (BOX + "network: {name: n, allow: ‸[a]}\n", "mode: allowlist", "remove `allow`"),
    "another container's network": (BOX + 'network: {name: ‸"container:x"}\n', "`name` must be the name of a network", "agents"),
    "the lack of a network by name": (BOX + "network: {name: ‸none}\n", "no network but the lack", "mode: isolated"),
    "the host's own network": (BOX + "network: {name: ‸host}\n", "the host's own network", "remove `name`"),
    "a misspelt capability": (BOX + "security: {cap_drop: [ALL, ‸net_admn]}\n", "no Linux capability `net_admn`", "`NET_ADMIN`"),
    "a capability nobody knows": (BOX + "security: {cap_add: [‸zzz]}\n", "no Linux capability `zzz`", "capabilities(7)"),
    "all capabilities added": (BOX + "security: {cap_add: [KILL, ‸all]}\n", "takes no `ALL`", "name the capabilities"),
    "a capability dropped and added": (
        BOX + "security: {cap_drop: [CAP_KILL], cap_add: [‸kill]}\n", "`KILL` is dropped and added", "remove one",
    ),
    "an init that is a word": (BOX + "security: {init: ‸tini}\n", "`init` must be true or false", "true or false"),
    "a profile that is not there": (BOX + "security: {seccomp: ‸strict.json}\n", "there is no seccomp profile", "path of a JSON profile"),
    "a misspelt restart policy": (BOX + "restart: ‸alway\n", "`restart` must be", "did you mean `always`"),
    "restart: true": (BOX + "restart: ‸true\n", "`restart` must be", "`unless-stopped`"),
    "a restart without its number": (BOX + 'restart: ‸"on-failure:"\n', "`restart` must be", "`on-failure`"),
    "restarts after always": (BOX + 'restart: ‸"always:3"\n', "`restart` must be", "`always`"),
    "a restart policy that turns out to be a word": (
        "variables: {r: {default: often}}\n" + BOX + "restart: ‸${var.r}\n", "`restart` must be", "`always`",
    ),
    "a label of ours": (BOX + "labels: {‸sandbox-reconciler/stack: x}\n", "begin with `sandbox-reconciler/`", "another name"),
    "a key of for_each with a star": (BOX + 'for_each: [a, ‸"b*"]\n', "cannot be a key", "`*`, `?`"),
    "a key of for_each with a question mark": (BOX + 'for_each: {‸"b?": 1}\n', "cannot be a key", "`*`, `?`"),
    "two addresses of one engine": ("backends: {d: ‸{type: docker, host: a, base_url: a}}\n", "only one of `host`", "give only one"),
    "an address and a context": ("backends: {d: ‸{type: docker, host: a, context: b}}\n", "only one of `host`", "give only one"),
    "a base URL and a context": ("backends: {d: ‸{type: docker, base_url: a, context: b}}\n", "only one of `host`", "give only one"),
    "a prefix with a slash": ("backends: {d: {type: docker, prefix: ‸a/b}}\n", "`prefix` must be letters", "write"),
    "an image that is none": ("backends: {d: {type: apple, image: ‸a b}}\n", "`image` must be an image", "ghcr.io"),
    "a time without sense": ("backends: {d: {type: docker, timeout: ‸soon}}\n", "a duration such as", "60s"),
    "an unknown option of Docker": ("backends: {d: {type: docker, ‸prefx: a}}\n", "unknown key `prefx`", "`prefix`"),
}  # fmt: skip

TWO = "sandboxes:\n  db: {}\n  box:\n    "

LIFECYCLES = {
    "a protection that is a word": (BOX + "lifecycle: {prevent_destroy: ‸yes}\n", "true or false, not `yes`", "`prevent_destroy: true`"),
    "a protection that turns out to be a word": (
        "variables: {p: {default: maybe}}\n" + BOX + "lifecycle: {prevent_destroy: ‸'${var.p}'}\n", "true or false", "write",
    ),
    "a protection that is an escape": (BOX + "lifecycle: {prevent_destroy: ‸'$${x}'}\n", "true or false", "true or false"),
    "a misspelt key of lifecycle": (BOX + "lifecycle: {‸prevent_destory: true}\n", "`prevent_destory`", "`prevent_destroy`"),
    "a misspelt field to ignore": (BOX + "lifecycle: {ignore_changes: [‸enviroment.A]}\n", "`enviroment` is no field", "did you mean `environment.A`"),
    "a misspelt part to ignore": (BOX + "lifecycle: {ignore_changes: [image, ‸resources.mem]}\n", "`resources.mem`", "did you mean `resources.memory`"),
    "a part of what has none": (BOX + "lifecycle: {ignore_changes: [‸image.tag]}\n", "`image` has no parts", "write `image`"),
    "a field that is on no object": (BOX + "lifecycle: {ignore_changes: [‸readiness]}\n", "`readiness` is no field", "`image`"),
    "a glob that matches no field": (BOX + "lifecycle: {ignore_changes: [‸x*]}\n", "`x*` is no field", "`image`"),
    "a glob that matches no part": (BOX + "lifecycle: {ignore_changes: [‸resources.x*]}\n", "`resources.x*`", "`resources.cpu`"),
    "a field with a dot at its end": (BOX + "lifecycle: {ignore_changes: [‸environment.]}\n", "ends with a dot", "`environment`"),
    "nothing to ignore": (BOX + 'lifecycle: {ignore_changes: [‸""]}\n', "no field", "choose one of"),
    "a field instead of a list of them": (BOX + "lifecycle: {ignore_changes: ‸image}\n", "a list of fields", "`ignore_changes: [image]`"),
    "an unknown trigger": (TWO + "lifecycle: {replace_triggered_by: [‸sandbox.dbb]}\n", "no sandbox `dbb`", "did you mean `db`"),
    "an index of a trigger that is one sandbox": (TWO + "lifecycle: {replace_triggered_by: [‸'sandbox.db[0]']}\n", "is one sandbox", "without brackets"),
    "a trigger with an attribute": (TWO + "lifecycle: {replace_triggered_by: [‸sandbox.db.url]}\n", "`db.url` is not the name", "such as `db`"),
    "a trigger as an interpolation": (TWO + 'lifecycle: {replace_triggered_by: [‸"${sandbox.db.id}"]}\n', "only allowed in `environment`", "write"),
    "itself as a trigger": (BOX + "lifecycle: {replace_triggered_by: [‸sandbox.box]}\n", "`box` cannot be replaced because of itself", "another"),
    "its own group as a trigger": (
        TWO + "replicas: 2\n    lifecycle: {replace_triggered_by: [db, ‸box]}\n", "`box[0]` cannot be replaced because of itself", "another",
    ),
    "one of its own group as a trigger": (
        BOX + "replicas: 2\n    lifecycle: {replace_triggered_by: [‸'sandbox.box[1]']}\n", "`box[1]` cannot be replaced", "another",
    ),
    "a trigger from the defaults that means itself": (
        "defaults: {lifecycle: {replace_triggered_by: [‸box]}}\nsandboxes: {box: {}, other: {}}\n", "`box` cannot be replaced", "gives way",
    ),
    "triggers in a circle": (
        "sandboxes:\n  a: {lifecycle: {replace_triggered_by: ‸[b]}}\n  b: {depends_on: [a]}\n", "circle: a → b → a", "`replace_triggered_by`",
    ),
    "a life of no length": (BOX + "lifecycle: {max_lifetime: ‸0s}\n", "longer than nothing", "`8h`"),
    "a life without sense": (BOX + "lifecycle: {max_lifetime: ‸long}\n", "a duration such as", "60s"),
    "no replica away at all": (BOX + "rollout: {max_unavailable: ‸0}\n", "1 or more", "max_unavailable: 2"),
    "no part of the replicas away": (BOX + "rollout: {max_unavailable: ‸0%}\n", "from 1% to 100%", "max_unavailable: 2"),
    "more than all of them away": (BOX + "rollout: {max_unavailable: ‸101%}\n", "from 1% to 100%", "max_unavailable: 2"),
    "a number in quotes that are away": (BOX + 'rollout: {max_unavailable: ‸"2"}\n', "a whole number", "remove the quotes"),
    "a part that turns out to be a word": (
        "variables: {n: {default: some}}\n" + BOX + "rollout: {max_unavailable: ‸'${var.n}'}\n", "from 1% to 100%", "write",
    ),
    "fewer canaries than none": (BOX + "rollout: {canary: ‸-1}\n", "0 or more", "write"),
    "half a canary": (BOX + "rollout: {canary: ‸0.5}\n", "a whole number", "write"),
    "a misspelt key of rollout": (BOX + "rollout: {‸max_unavailble: 1}\n", "`max_unavailble`", "`max_unavailable`"),
    "a rollout that is a number": (BOX + "rollout: ‸1\n", "must be a mapping", "write"),
}  # fmt: skip

CASES = {**SYNTAX, **KEYS, **VALUES, **MEANINGS, **CONTAINERS, **LIFECYCLES}


@pytest.mark.parametrize(("text", "message", "fix"), CASES.values(), ids=CASES.keys())
def test_it_is_said_once_where_it_stands_and_what_to_do(
    tmp_path: Path, text: str, message: str, fix: str
) -> None:
    text = text[1:] if text.startswith("¤") else HEAD + text
    before, marker, _ = text.partition("‸")
    assert marker
    found = wrong(tmp_path, text.replace("‸", ""))

    assert len(found) == 1, [f"{item.position} {item.summary}" for item in found]
    problem = found[0]
    assert str(problem.position) == (
        f"sandboxes.yaml:{before.count(chr(10)) + 1}:{len(before.rpartition(chr(10))[2]) + 1}"
    )
    assert message in problem.summary
    assert fix in problem.fix
    assert problem.code
    assert problem.width >= 1


def test_the_table_is_large_enough_to_mean_something() -> None:
    assert len(CASES) >= 60
