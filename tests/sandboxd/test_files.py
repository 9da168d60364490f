"""Which status says what when the file system refuses."""

from __future__ import annotations

import errno
import os

import pytest

from reconciler.sandboxd.files import refusal


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ENOENT, 404),
        (errno.ENOTDIR, 404),
        (errno.EISDIR, 400),
        (errno.EACCES, 403),
        (errno.EPERM, 403),
        (errno.EROFS, 403),
        (errno.ENOSPC, 507),
        (errno.ENAMETOOLONG, 400),
    ],
    ids=lambda value: errno.errorcode.get(value, "") if isinstance(value, int) else None,
)
def test_an_error_of_the_system_becomes_a_status(number: int, status: int) -> None:
    refused = refusal(OSError(number, os.strerror(number)), "/some/file")
    assert refused.status == status
    assert "/some/file" in refused.message
