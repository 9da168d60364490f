"""`reconciler state …`: looking at the records, mending them, and going back."""

from __future__ import annotations

from reconciler.cli.groups import LazyGroup

state = LazyGroup(
    name="state",
    help="The records of what was last applied.",
    listing={
        "Look": {
            "list": (f"{__name__}.look:state_list", "List the recorded addresses."),
            "show": (f"{__name__}.look:state_show", "Show one record."),
            "history": (f"{__name__}.look:state_history", "List the versions that can be had, or show one."),
        },
        "Mend": {
            "mv": (f"{__name__}.edit:state_mv", "Give what is recorded another address."),
            "rm": (f"{__name__}.edit:state_rm", "Let go of sandboxes: they run on."),
        },
        "Go back": {
            "pull": (f"{__name__}.exchange:state_pull", "Print the state, or an older version."),
            "push": (f"{__name__}.exchange:state_push", "Store a state that was pulled."),
            "rollback": (f"{__name__}.back:state_rollback", "Make an older version the state again."),
        },
        "Move": {
            "migrate": (
                f"{__name__}.migrate:state_migrate",
                "Bring the state from another store into this one.",
            ),
        },
    },
)
