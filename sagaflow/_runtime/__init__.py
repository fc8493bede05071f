"""The shell: what is read, run, written and sent around the engine."""
