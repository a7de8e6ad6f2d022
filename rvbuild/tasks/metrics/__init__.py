"""Metrics shared by tasks, as data, tables and pictures."""
