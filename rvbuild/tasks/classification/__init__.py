"""Chip classification: a class for every cell of a scene."""
