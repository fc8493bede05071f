"""How the values of a declared type are stored, and read back."""
