"""What a plan is made from, as digests: enough to name what changed since, and nothing to read a value from."""

from __future__ import annotations

from reconciler.config.configure import Configuration
from reconciler.config.interpolate import Variable
from reconciler.config.secrets import digest
from reconciler.model.desired import Desired
from reconciler.model.saved import Inputs
from reconciler.model.sha256 import sha256


def inputs_of(configuration: Configuration, desired: Desired, *, key: bytes | None) -> Inputs:
    """`desired` has its secrets resolved if they were read at all; `key` is the store's."""
    return Inputs(
        configuration=configuration.digest,
        variables={
            name: _variable(name, variable, key) for name, variable in sorted(configuration.variables.items())
        },
        secrets=_secrets(desired, key),
    )


def _variable(name: str, variable: Variable, key: bytes | None) -> str:
    """A sensitive value is keyed, for a plain digest of a short text is as good as the text; "" without a key."""
    import json

    text = json.dumps(variable.value, sort_keys=True)
    if variable.sensitive:
        return "" if key is None else digest(key, f"variable {name}", text)
    return f"sha256:{sha256(text.encode()).hexdigest()[:32]}"


def _secrets(desired: Desired, key: bytes | None) -> str:
    """Over the keyed digests of all of them; "" when there is none, or one that is not known."""
    import json

    digests = [
        (address, name, ref.digest)
        for address, wanted in sorted(desired.sandboxes.items())
        for name, ref in sorted(wanted.spec.secrets.items())
    ]
    if key is None or not digests or not all(made for *_, made in digests):
        return ""
    return digest(key, "all secrets", json.dumps(digests))
