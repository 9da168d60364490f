"""What a test needs is skipped where it is missing, and fails where CI promises it."""

from __future__ import annotations

import pytest

from tests.support.required import lacking, required, skip_unless


def test_nothing_is_lacking_when_the_program_is_there_and_works() -> None:
    assert lacking("sh") == ""
    assert required("sh", strict=True).args == (False,)


def test_a_missing_program_skips_where_nothing_is_promised() -> None:
    mark = required("no-such-program", strict=False)
    assert mark.args == (True,)
    assert mark.kwargs["reason"] == "no-such-program is not installed"


def test_a_missing_program_fails_in_ci() -> None:
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not installed"):
        required("no-such-program", strict=True)


def test_a_broken_program_fails_in_ci_with_its_reason() -> None:
    with pytest.raises(pytest.fail.Exception, match="sh does not work here: no user namespaces"):
        required("sh", broken="no user namespaces", strict=True)


def test_what_is_known_late_skips_or_fails_in_the_same_way() -> None:
    skip_unless(True, "cannot happen", strict=True)
    with pytest.raises(pytest.skip.Exception, match="not root"):
        skip_unless(False, "not root", strict=False)
    with pytest.raises(pytest.fail.Exception, match="not root"):
        skip_unless(False, "not root", strict=True)
