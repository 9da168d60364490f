"""The network modes of a specification as NetworkPolicy. Pure.

A policy speaks of addresses, never of names. Whether it holds is the network plugin's business: one that knows no policies
ignores them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from reconciler.backends.kubernetes.manifests import companion, selector
from reconciler.backends.kubernetes.order import Json, Order
from reconciler.model.desired import Network, NetworkMode

_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+(?:/\d{1,3})?)\]:(\d{1,5})|([0-9.]+(?:/\d{1,2})?):(\d{1,5})")


def policy(order: Order, owner: Mapping[str, Any]) -> Json:
    """The body of the NetworkPolicy. `isolated` lets nothing out, and in only what every cluster lets in: its own node,
    for the probes. `allowlist` filters what goes out, and says nothing of what comes in."""
    return {
        **companion(order, "networking.k8s.io/v1", "NetworkPolicy", owner),
        "spec": rules(order.sandbox_id, order.spec.network),
    }


def rules(sandbox_id: str, network: Network) -> Json:
    made: Json = {"podSelector": {"matchLabels": selector(sandbox_id)}}
    if network.mode is NetworkMode.ISOLATED:
        return {**made, "policyTypes": ["Ingress", "Egress"]}
    return {**made, "policyTypes": ["Egress"], "egress": [_rule(entry) for entry in sorted(network.allow)]}


def _rule(entry: str) -> Json:
    block, port = destination(entry)
    made: Json = {"to": [{"ipBlock": {"cidr": block}}]}
    if port is not None:
        made["ports"] = [{"port": port, "protocol": "TCP"}]
    return made


def destination(entry: str) -> tuple[str, int | None]:
    """The network, and the port if one is named, of `10.0.0.0/8`, `10.1.2.3:443`, `[fd00::/8]:443`. Raises ValueError for
    a name."""
    found = _WITH_PORT.fullmatch(entry)
    text, port = (found[1] or found[3], int(found[2] or found[4])) if found else (entry, None)
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(entry)
    return str(ipaddress.ip_network(text, strict=False)), port


def holds(policy: Mapping[str, Any], meant: Mapping[str, Any]) -> bool:
    """Whether the live rules are those that were meant; an empty list and none are the same."""
    live = policy.get("spec") or {}
    return all((live.get(key) or []) == (meant.get(key) or []) for key in {*meant, "ingress", "egress"})
