"""A shop of three programs: a web process takes orders, workers see to them, payments charges."""
