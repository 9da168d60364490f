"""How much the random searches among the tests do: a representative part in every run, all of it when asked for.

`RECONCILER_THOROUGH=1 make test`, which takes some ten minutes more, is for before a release and for hunting.
"""

from __future__ import annotations

import os

THOROUGH = bool(os.environ.get("RECONCILER_THOROUGH"))


def effort(usual: int, thorough: int) -> int:
    """So many in every run, and so many when thoroughness is asked for."""
    return thorough if THOROUGH else usual
