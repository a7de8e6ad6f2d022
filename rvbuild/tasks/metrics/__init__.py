"""Metrics that tasks share, as data, tables and pictures."""
