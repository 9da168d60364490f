"""Labels on live objects, which everybody who can reach the engine may write: what is odd is nobody's."""

from __future__ import annotations

import pytest

from reconciler.backends.containers import PREFIX, labels_of, owner_of
from reconciler.backends.docker.look import named
from reconciler.backends.docker.request import PORTS
from reconciler.cli.views.grouping import together
from reconciler.model.address import address_order
from reconciler.testing.backend_conformance import an_owner
from tests.attack.hostile import EVIL

GENERATIONS = {
    "ten to the thirty": str(10**30),
    "too long for a number": "9" * 5000,
    "negative": "-1",
    "with a plus": "+1",
    "with spaces": " 1 ",
    "with underscores": "1_000",
    "in other digits": "١",
    "not a number": "NaN",
    "with a line break": "1\n",
    "with a zero in front": "01",
    "hexadecimal": "0x1",
    "empty": "",
}


@pytest.mark.parametrize("text", GENERATIONS.values(), ids=GENERATIONS.keys())
def test_a_generation_that_we_never_write_makes_it_nobodys(text: str) -> None:
    assert owner_of({**labels_of("a", an_owner(), None), f"{PREFIX}generation": text}) is None


@pytest.mark.parametrize("name", ["stack", "lineage", "address"])
def test_an_empty_name_makes_it_nobodys(name: str) -> None:
    assert owner_of({**labels_of("a", an_owner(), None), f"{PREFIX}{name}": ""}) is None


@pytest.mark.parametrize("name", ["stack", "lineage", "address", "generation", "spec-hash", "managed-by"])
def test_a_missing_label_makes_it_nobodys(name: str) -> None:
    labels = labels_of("a", an_owner(), None)
    del labels[f"{PREFIX}{name}"]
    assert owner_of(labels) is None


@pytest.mark.parametrize(
    "address", [EVIL, "[", "a[", "a]", 'a["', "[[[0]]]", "a[" + "9" * 5000 + "]", "x" * 100_000]
)
def test_an_absurd_address_is_only_a_name(address: str) -> None:
    owner = owner_of({**labels_of("a", an_owner(), None), f"{PREFIX}address": address})
    assert owner is not None
    assert owner.address == address
    assert sorted([address, "a[2]", "a[10]"], key=address_order).index("a[2]") < 3
    assert together([address, address])


PORT_LABELS = {
    "a number of five thousand digits": "http=" + "9" * 5000,
    "a number in other digits": "http=١",
    "a negative number": "http=-1",
    "nothing but commas": "," * 10_000,
    "signs without sense": "@#=@#=,=,@",
}


@pytest.mark.parametrize("text", PORT_LABELS.values(), ids=PORT_LABELS.keys())
def test_a_label_of_ports_that_makes_no_sense_names_none(text: str) -> None:
    assert named({PORTS: text}) == {}
