"""The data stage: the content of a project, as a table and as a page."""
