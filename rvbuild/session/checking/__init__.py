"""Checks before work, and the messages about their findings."""
