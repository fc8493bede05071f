"""The commands of ``sagaflow``, one module for each. A module is imported when it is used."""
