"""What each task adds to the tables of a project."""
