"""The report stage: one page on a project."""
