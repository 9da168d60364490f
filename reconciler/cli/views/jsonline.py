"""One line of JSON, for events and answers alike. Imports nothing of the model: small commands start fast."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def line(data: Mapping[str, Any]) -> str:
    """Without its newline; ASCII, so that no terminal or pipe can be hurt by a value."""
    return json.dumps(data, separators=(",", ":"))
