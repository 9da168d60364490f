"""A namespace that several backends of one file share is made by whichever comes first, if any of them is to make it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.written import desired

MAKES = "{type: kubernetes, namespace: agents, create_namespace: true}"


@pytest.mark.parametrize(
    ("other", "makes"),
    [
        pytest.param("{type: kubernetes, namespace: agents}", True, id="the same namespace"),
        pytest.param("{type: kubernetes, namespace: agents, api: agent-sandbox}", True, id="in another form"),
        pytest.param("{type: kubernetes, namespace: others}", None, id="another namespace"),
        pytest.param("{type: kubernetes, namespace: agents, context: prod}", None, id="another context"),
        pytest.param("{type: kubernetes, namespace: agents, kubeconfig: k}", None, id="another file"),
        pytest.param("{type: docker}", None, id="another engine"),
    ],
)
def test_who_shares_a_namespace_makes_it_too(tmp_path: Path, other: str, makes: bool | None) -> None:
    found = desired(tmp_path, f"backends: {{one: {other}, two: {MAKES}}}\nsandboxes: {{}}\n").backends
    assert found["one"].options.get("create_namespace") is makes
    assert found["two"].options["create_namespace"] is True


def test_nobody_makes_one_that_nobody_is_to_make(tmp_path: Path) -> None:
    two = "{type: kubernetes, namespace: agents}"
    found = desired(tmp_path, f"backends: {{one: {two}, two: {two}}}\nsandboxes: {{}}\n").backends
    assert all("create_namespace" not in config.options for config in found.values())
