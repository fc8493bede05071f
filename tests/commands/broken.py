"""A module of a user's that cannot be imported."""

raise RuntimeError("the settings\nare missing")
