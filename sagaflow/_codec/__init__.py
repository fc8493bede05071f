"""Between Python values and what is stored."""
