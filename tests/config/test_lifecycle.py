"""`lifecycle` and `rollout`: each key reaches its type, with its place, from wherever it was said."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.model.lifecycle import Lifecycle, Rollout
from tests.config.written import HEAD, desired, one, wrong

FLEET = "db: {}, r: {replicas: 2}, e: {for_each: [eu, us]}"


@pytest.mark.parametrize(
    ("said", "lifecycle"),
    [
        pytest.param("{}", Lifecycle(), id="nothing"),
        pytest.param("{prevent_destroy: true}", Lifecycle(prevent_destroy=True), id="protection"),
        pytest.param("{prevent_destroy: false}", Lifecycle(prevent_destroy=False), id="no protection"),
        pytest.param('{prevent_destroy: "${var.yes}"}', Lifecycle(prevent_destroy=True), id="protection by a variable"),
        pytest.param("{max_lifetime: 1h30m}", Lifecycle(max_lifetime=5400.0), id="a lifetime"),
        pytest.param("{max_lifetime: 60}", Lifecycle(max_lifetime=60.0), id="a lifetime in seconds"),
        pytest.param(
            "{ignore_changes: [environment, environment.LOG_LEVEL, resources.memory, image, image]}",
            Lifecycle(ignore_changes=("environment", "environment.LOG_LEVEL", "resources.memory", "image")),
            id="fields to ignore",
        ),
        pytest.param(
            "{ignore_changes: ['*', '*.memory', 'env*', 'resources.*', 'security.cap_*', 'mounts./a.b.*', 'labels.x/y']}",
            Lifecycle(
                ignore_changes=("*", "*.memory", "env*", "resources.*", "security.cap_*", "mounts./a.b.*", "labels.x/y")
            ),
            id="globs",
        ),
        pytest.param('{ignore_changes: "${var.fields}"}', Lifecycle(ignore_changes=("image",)), id="fields by a variable"),
        pytest.param("{ignore_changes: []}", Lifecycle(), id="no fields"),
        pytest.param(
            "{replace_triggered_by: [sandbox.db, 'r[01]', \"sandbox.e['us']\"]}",
            Lifecycle(replace_triggered_by=("db", "r[1]", 'e["us"]')),  # type: ignore[arg-type]
            id="triggers",
        ),
        pytest.param(
            "{replace_triggered_by: [r, 'sandbox.r[0]', sandbox.e]}",
            Lifecycle(replace_triggered_by=("r[0]", "r[1]", 'e["eu"]', 'e["us"]')),  # type: ignore[arg-type]
            id="groups as triggers",
        ),
        pytest.param(
            '{replace_triggered_by: ["sandbox.${var.name}"]}',
            Lifecycle(replace_triggered_by=("db",)),  # type: ignore[arg-type]
            id="a trigger by a variable",
        ),
        pytest.param(
            "{replace: create_first, prevent_destroy: true, max_lifetime: 8h, x-why: because}",
            Lifecycle(create_first=True, prevent_destroy=True, max_lifetime=28800.0),
            id="several at once",
        ),
    ],
)  # fmt: skip
def test_lifecycles(tmp_path: Path, said: str, lifecycle: Lifecycle) -> None:
    above = (
        "variables: {yes: {type: bool, default: true}, name: {default: db}, "
        "fields: {type: list, default: [image]}}\n"
    )

    fleet = desired(tmp_path, f"{above}sandboxes: {{{FLEET}, box: {{lifecycle: {said}}}}}\n").sandboxes

    assert fleet["box"].lifecycle == lifecycle  # type: ignore[index]
    assert "lifecycle" not in str(fleet["box"].spec.canonical())  # type: ignore[index]


@pytest.mark.parametrize(
    ("said", "rollout"),
    [
        pytest.param("{}", Rollout(), id="the defaults"),
        pytest.param("{max_unavailable: 3}", Rollout(max_unavailable=3), id="a number"),
        pytest.param("{max_unavailable: 25%}", Rollout(max_unavailable_percent=25.0), id="a part"),
        pytest.param('{max_unavailable: "100%"}', Rollout(max_unavailable_percent=100.0), id="all of it"),
        pytest.param('{max_unavailable: "${var.n}"}', Rollout(max_unavailable=4), id="a number by a variable"),
        pytest.param('{max_unavailable: "${var.n}0%"}', Rollout(max_unavailable_percent=40.0), id="a part by a variable"),
        pytest.param(
            "{min_healthy: 90s, canary: 2, auto_revert: true}",
            Rollout(min_healthy=90.0, canary=2, auto_revert=True),
            id="the other keys",
        ),
        pytest.param("{canary: 0, min_healthy: 0s, auto_revert: false, max_unavailable: 1}", Rollout(), id="the defaults, said"),
    ],
)  # fmt: skip
def test_rollouts(tmp_path: Path, said: str, rollout: Rollout) -> None:
    above = "variables: {n: {type: number, default: 4}}\n"

    alone = one(tmp_path, f"{{rollout: {said}}}", above=above)
    many = desired(tmp_path, f"{above}sandboxes: {{box: {{replicas: 2, rollout: {said}}}}}\n").sandboxes

    assert alone.rollout == rollout
    assert {sandbox.rollout for sandbox in many.values()} == {rollout}


def test_without_a_rollout_there_is_none(tmp_path: Path) -> None:
    assert one(tmp_path, "{}").rollout is None


def test_they_merge_from_defaults_and_template_and_lists_replace(tmp_path: Path) -> None:
    fleet = desired(
        tmp_path,
        "defaults: {lifecycle: {prevent_destroy: true, ignore_changes: [image]}, rollout: {canary: 1}}\n"
        "templates: {t: {lifecycle: {ignore_changes: [labels]}, rollout: {min_healthy: 5s}}}\n"
        "sandboxes: {box: {template: t, lifecycle: {max_lifetime: 1h}, rollout: {max_unavailable: 2}}}\n",
    ).sandboxes

    [box] = fleet.values()
    assert box.lifecycle == Lifecycle(prevent_destroy=True, ignore_changes=("labels",), max_lifetime=3600.0)
    assert box.rollout == Rollout(canary=1, min_healthy=5.0, max_unavailable=2)
    assert {path: box.at(path).line for path in box.where} == {
        "lifecycle": 5, "lifecycle.prevent_destroy": 3, "lifecycle.ignore_changes": 4, "lifecycle.max_lifetime": 5,
        "rollout": 5, "rollout.canary": 3, "rollout.min_healthy": 4, "rollout.max_unavailable": 5,
    }  # fmt: skip


def test_each_value_has_its_place(tmp_path: Path) -> None:
    box = one(
        tmp_path,
        "{lifecycle: {prevent_destroy: true, replace: create_first, ignore_changes: [image], "
        "replace_triggered_by: [], max_lifetime: 8h}, "
        "rollout: {max_unavailable: 1, min_healthy: 0s, canary: 0, auto_revert: true}}",
    )

    line = (tmp_path / "sandboxes.yaml").read_text().splitlines()[3]
    for path, place in box.where.items():
        key = path.rpartition(".")[2]
        assert place.column == line.index(f"{key}: ") + len(key) + 3, path
    assert len(box.where) == 11
    assert box.at("rollout.nothing") == box.at("rollout")


def test_triggers_come_first_and_are_waited_for(tmp_path: Path) -> None:
    fleet = desired(
        tmp_path,
        f"sandboxes: {{{FLEET}, box: {{depends_on: [e], environment: {{U: '${{sandbox.db.url}}'}}, "
        "lifecycle: {replace_triggered_by: ['e[\"us\"]', r, db]}}}\n",
    ).sandboxes

    box = fleet["box"]  # type: ignore[index]
    assert box.depends_on == ('e["eu"]', 'e["us"]', "r[0]", "r[1]", "db")
    assert box.references == ("db",)


def test_triggers_may_differ_by_replica(tmp_path: Path) -> None:
    fleet = desired(
        tmp_path,
        "sandboxes:\n  db: {replicas: 2}\n"
        "  box: {replicas: 2, lifecycle: {replace_triggered_by: ['sandbox.db[${replica.index}]']}}\n",
    ).sandboxes

    followed = {address: box.lifecycle.replace_triggered_by for address, box in fleet.items()}
    assert followed == {"db[0]": (), "db[1]": (), "box[0]": ("db[0]",), "box[1]": ("db[1]",)}
    assert {address: box.depends_on for address, box in fleet.items()} == followed


def test_many_replicas_share_what_they_wait_for(tmp_path: Path) -> None:
    fleet = desired(
        tmp_path,
        "sandboxes:\n  db: {replicas: 3000}\n  other: {}\n"
        "  box: {replicas: 3000, depends_on: [other], lifecycle: {replace_triggered_by: [sandbox.db]}}\n",
    ).sandboxes

    boxes = [sandbox for sandbox in fleet.values() if sandbox.group == "box"]
    assert len({id(box.depends_on) for box in boxes}) == 1
    assert len({id(box.lifecycle) for box in boxes}) == 1
    assert len(boxes[0].depends_on) == 3001


def test_all_that_is_wrong_with_them_is_told_at_once(tmp_path: Path) -> None:
    found = wrong(
        tmp_path,
        HEAD + "sandboxes:\n  db: {}\n  box:\n    lifecycle:\n"
        "      ignore_changes: [imgae, environment, nothing, 'label.x']\n"
        "      replace_triggered_by: [sandbox.bd, db, 'db[1]', '?']\n"
        "      max_lifetime: 0\n",
    )

    assert [(item.position.line, item.position.column, item.code) for item in found if item.position] == [
        (7, 24, "unknown-field"), (7, 44, "unknown-field"), (7, 53, "unknown-field"),
        (8, 30, "unknown-sandbox"), (8, 46, "unknown-sandbox"), (8, 55, "address"),
        (9, 21, "wrong-value"),
    ]  # fmt: skip


def test_a_wrong_one_of_a_template_is_told_once_for_all_who_use_it(tmp_path: Path) -> None:
    found = wrong(
        tmp_path,
        HEAD + "templates: {t: {lifecycle: {ignore_changes: [imgae]}}}\n"
        "sandboxes: {a: {template: t}, b: {template: t, replicas: 3}}\n",
    )

    assert [item.code for item in found] == ["unknown-field"]
