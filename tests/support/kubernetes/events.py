"""Events about objects, counted instead of repeated, as the components of a cluster record them."""

from __future__ import annotations

import contextlib
import copy
import uuid

from tests.support.kubernetes.api import Api, Call, stamp
from tests.support.kubernetes.refusals import Json, Refusal
from tests.support.kubernetes.resources import EVENTS


class Recorder:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._names: dict[tuple[str, str, str], str] = {}
        self.quiet = False  # record nothing: for clusters with very many pods

    def record(self, about: Json, kind: str, reason: str, message: str, source: str = "kubelet") -> None:
        """The same reason and message again raises the count of the event that is there."""
        if self.quiet:
            return
        metadata = about["metadata"]
        same = (metadata["uid"], reason, message)
        storage = self._api.storage
        with storage.lock, contextlib.suppress(Refusal):
            call = Call(
                resource=EVENTS, namespace=metadata["namespace"], name=self._names.get(same, ""), agent=source
            )
            if call.name and (live := storage.get(call.key)):
                again = copy.deepcopy(live)
                again.update(count=live["count"] + 1, lastTimestamp=stamp())
                self._api.replace(call, again)
                return
            name = f"{metadata['name']}.{uuid.uuid4().hex[:16]}"
            call.name = self._names[same] = name
            self._api.create(
                call,
                {
                    "apiVersion": "v1",
                    "kind": "Event",
                    "metadata": {"name": name, "namespace": metadata["namespace"]},
                    "involvedObject": {
                        "kind": about["kind"], "apiVersion": about["apiVersion"], "name": metadata["name"],
                        "namespace": metadata["namespace"], "uid": metadata["uid"],
                        "resourceVersion": metadata["resourceVersion"],
                    },
                    "reason": reason, "message": message, "type": kind, "count": 1,
                    "firstTimestamp": stamp(), "lastTimestamp": stamp(), "eventTime": None,
                    "source": {"component": source}, "reportingComponent": source, "reportingInstance": "",
                },
            )  # fmt: skip
