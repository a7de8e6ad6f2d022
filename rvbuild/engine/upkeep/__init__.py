"""Maintenance of a store: its content, what can be removed, and whether it is intact."""
