"""The data stage: what a project holds, as a table and as a page."""
