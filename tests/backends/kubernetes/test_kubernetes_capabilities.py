"""What a cluster holds, and what it does not: by field, and by what a value is."""

from __future__ import annotations

import pytest

from reconciler.backends.kubernetes.capabilities import capabilities
from reconciler.model.capabilities import Support

ENFORCED, NOTED, REFUSED = Support.ENFORCED, Support.NOTED, Support.REFUSED


@pytest.mark.parametrize(
    ("path", "value", "support", "why"),
    [
        ("network.mode", "isolated", ENFORCED, ""),
        ("network.allow", '["10.0.0.0/8", "1.2.3.4:443"]', ENFORCED, ""),
        ("network.allow", '["10.0.0.0/8", "pypi.org"]', REFUSED, "not of names (pypi.org)"),
        ("network.allow", "no list", REFUSED, "no list"),
        ("network.name", "net", REFUSED, "one network"),
        ("resources.pids", 512, NOTED, "podPidsLimit"),
        ("security.user", "1000:1000", ENFORCED, ""),
        ("security.user", "gem", REFUSED, "by number"),
        ("security.user", "0100", REFUSED, "by number"),
        ("security.seccomp", "default", ENFORCED, ""),
        ("security.seccomp", "/x.json#sha256:0123456789ab", REFUSED, "each node"),
        ("restart", "unless-stopped", ENFORCED, ""),
        ("restart", "on-failure", ENFORCED, ""),
        ("restart", "on-failure:3", REFUSED, "does not count"),
        ("ports.a-b.container", 80, ENFORCED, ""),
        ("ports.a--b.container", 80, REFUSED, "two dashes"),
        ("ports.http.host", "auto", ENFORCED, ""),
        ("ports.http.host", 30080, REFUSED, "NodePort"),
        ("ports.http.bind", "127.0.0.1", ENFORCED, ""),
        ("ports.http.bind", "0.0.0.0", NOTED, "addresses of its own"),
        ("mounts./data.source", "/srv/data", REFUSED, "whichever node"),
        ("mounts./data.source", "cache", ENFORCED, ""),
        ("mounts./data.type", "tmpfs", ENFORCED, ""),
        ("command", "[]", REFUSED, "the image's own"),
        ("something.new", 1, REFUSED, ""),
    ],
)
def test_a_field_is_held_or_it_is_said_why_not(path: str, value: object, support: Support, why: str) -> None:
    able = capabilities()
    assert able.support(path, value) is support
    assert why in able.reason(path, value)


def test_options_of_the_backend_open_what_is_refused_without_them() -> None:
    assert capabilities(host_paths=True).support("mounts./data.source", "/srv/data") is ENFORCED
    assert capabilities(service="NodePort").support("ports.http.host", 30080) is ENFORCED
