"""The data stage: a survey of a project, as a table and as a page."""
