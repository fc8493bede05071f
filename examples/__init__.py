"""Sagas as a user would write them."""
