"""Looks at saga classes and stored sagas without running them: pure functions."""
