"""Experiments: variants of a project with some keys set, which share the workspace and the store."""
