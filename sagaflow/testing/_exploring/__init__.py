"""Tries what may happen to a saga, with the real orchestrator, in virtual time."""
