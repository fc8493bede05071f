"""``sagaflow demo``: the order process with participants that keep books, checked at the end."""
