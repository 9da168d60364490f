"""Who may do what, and what is refused or filled in on the way: RBAC, quota, webhooks, and the built-in plugins."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from tests.support.kubernetes import refusals
from tests.support.kubernetes.defaults import amount, canonical
from tests.support.kubernetes.refusals import Json, Refusal
from tests.support.kubernetes.resources import PODS, SERVICES
from tests.support.kubernetes.storage import Storage

if TYPE_CHECKING:
    from tests.support.kubernetes.api import Call

Webhook = Callable[[str, Json], str]
"""(verb, object) → why it is refused, "" when it is not. It may change the object."""

_TOLERATIONS = [
    {
        "key": f"node.kubernetes.io/{name}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 300,
    }
    for name in ("not-ready", "unreachable")
]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """ "*" means any. `resources` are plurals, with /subresource where meant; `namespace` "" is the whole cluster."""

    verbs: tuple[str, ...] = ("*",)
    resources: tuple[str, ...] = ("*",)
    namespace: str = ""


@dataclass
class Admission:
    """Change it while the cluster runs. Users without an entry in `rules` may do everything."""

    network: str = "127.1"
    rules: dict[str, tuple[Rule, ...]] = field(default_factory=dict)
    webhooks: dict[str, Webhook] = field(default_factory=dict)
    service_accounts: bool = False  # as the plugin of that name: default account, and its token's volume

    def authorize(self, verb: str, call: Call) -> None:
        rules = self.rules.get(call.user)
        plural = call.resource.plural + (f"/{call.subresource}" if call.subresource else "")
        if rules is None or any(
            (rule.verbs == ("*",) or verb in rule.verbs)
            and (rule.resources == ("*",) or plural in rule.resources)
            and rule.namespace in ("", call.namespace)
            for rule in rules
        ):
            return
        where = f'in the namespace "{call.namespace}"' if call.namespace else "at the cluster scope"
        why = f'User "{call.user}" cannot {verb} resource "{plural}" in API group "{call.resource.group}" {where}'
        raise refusals.forbidden(call.resource, call.name, why)

    def admit(self, storage: Storage, verb: str, call: Call, thing: Json) -> None:
        """Fill in what plugins add, then ask webhooks and quotas. Raises Refusal."""
        if call.subresource:
            return
        if verb == "create" and call.resource == PODS:
            self._pod(call, thing)
        if call.resource == SERVICES:
            self._service(storage, thing)
        for name, webhook in self.webhooks.items():
            if why := webhook(verb, thing):
                raise Refusal(400, f'admission webhook "{name}" denied the request: {why}', "BadRequest")
        if verb == "create":
            for quota in storage.list(_quota(), call.namespace) if call.namespace else ():
                _within(storage, quota, call, thing)

    def _pod(self, call: Call, thing: Json) -> None:
        spec = thing["spec"]
        spec.setdefault("priority", 0)
        spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
        has = {toleration.get("key") for toleration in spec.get("tolerations") or ()}
        missing = [dict(toleration) for toleration in _TOLERATIONS if toleration["key"] not in has]
        spec["tolerations"] = [*(spec.get("tolerations") or ()), *missing]
        if self.service_accounts:
            _account(spec)
        thing["status"] = {"phase": "Pending", "qosClass": quality(spec)}

    def _service(self, storage: Storage, thing: Json) -> None:
        spec = thing["spec"]
        if spec["type"] == "ExternalName":
            return
        taken = [service["spec"] for service in storage.list(SERVICES)]
        if not spec.get("clusterIP"):
            addresses = {service.get("clusterIP") for service in taken}
            pool = (f"{self.network}.{200 + at // 250}.{1 + at % 250}" for at in itertools.count())
            spec["clusterIP"] = next(address for address in pool if address not in addresses)
        spec["clusterIPs"] = [spec["clusterIP"]]
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        thing.setdefault("status", {"loadBalancer": {}})
        if spec["type"] in ("NodePort", "LoadBalancer"):
            ports = {port.get("nodePort") for service in taken for port in service.get("ports") or ()}
            for port in spec.get("ports") or ():
                while not port.get("nodePort"):
                    number = random.randint(30000, 32767)
                    if number not in ports:
                        port["nodePort"] = number
                        ports.add(number)


def _account(spec: Json) -> None:
    name = spec.setdefault("serviceAccountName", "default")
    spec.setdefault("serviceAccount", name)
    if spec.get("automountServiceAccountToken") is False:
        return
    volume = f"kube-api-access-{random.randint(10000, 99999)}"
    token = {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    spec.setdefault("volumes", []).append(
        {"name": volume, "projected": {"sources": [token], "defaultMode": 420}}
    )
    where = "/var/run/secrets/kubernetes.io/serviceaccount"
    for container in spec["containers"]:
        container.setdefault("volumeMounts", []).append(
            {"name": volume, "readOnly": True, "mountPath": where}
        )


def quality(spec: Json) -> str:
    """The pod's class of service: Guaranteed, Burstable or BestEffort."""
    found = [container.get("resources") or {} for container in spec["containers"]]
    limits = [resources.get("limits") or {} for resources in found]
    if not any(limits) and not any(resources.get("requests") for resources in found):
        return "BestEffort"
    whole = all({"cpu", "memory"} <= set(limit) for limit in limits)
    same = all(resources.get("requests") == resources.get("limits") for resources in found)
    return "Guaranteed" if whole and same else "Burstable"


def _quota() -> refusals.Resource:
    from tests.support.kubernetes.resources import ALL

    return next(resource for resource in ALL if resource.plural == "resourcequotas")


def _within(storage: Storage, quota: Json, call: Call, thing: Json) -> None:
    hard = (quota.get("spec") or {}).get("hard") or {}
    mine = _usage(call.resource.plural, [thing], hard)
    relevant = {name for name, value in mine.items() if value is not None}
    lacking = sorted(name for name, value in mine.items() if value is None)
    name = quota["metadata"]["name"]
    if lacking:
        raise refusals.forbidden(
            call.resource, call.name, f"failed quota: {name}: must specify {','.join(lacking)}"
        )
    used = _usage(call.resource.plural, storage.list(call.resource, call.namespace), hard)
    over = sorted(
        each for each in relevant if mine[each] and (used[each] or 0) + (mine[each] or 0) > amount(hard[each])
    )
    if over:
        texts = [",".join(f"{each}={_text(values[each])}" for each in over) for values in (mine, used)] + [
            ",".join(f"{each}={canonical(hard[each])}" for each in over)
        ]
        raise refusals.forbidden(
            call.resource,
            call.name,
            "exceeded quota: {}, requested: {}, used: {}, limited: {}".format(name, *texts),
        )


def _text(value: Decimal | None) -> str:
    return canonical(
        f"{value or 0:f}".rstrip("0").rstrip(".") if "." in f"{value or 0:f}" else f"{value or 0:f}"
    )


def _usage(plural: str, things: Iterable[Json], hard: Json) -> dict[str, Decimal | None]:
    """By what the quota limits; None where a new object had to say how much it needs, and does not."""
    things = list(things)
    out: dict[str, Decimal | None] = {}
    for name in hard:
        if name in (plural, f"count/{plural}"):
            out[name] = Decimal(len(things))
        elif plural == "pods" and name not in ("services", "secrets") and "count/" not in name:
            part, _, kind = name.rpartition(".")
            amounts = [
                (container.get("resources") or {}).get(part or "requests", {}).get(kind)
                for thing in things
                for container in thing["spec"]["containers"]
            ]
            lacking = any(value is None for value in amounts)
            out[name] = None if lacking else sum((amount(value) for value in amounts), Decimal(0))
    return out
