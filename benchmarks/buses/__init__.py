"""Messages between processes: how fast they are on each bus, and what they cost."""
