"""The tables of a project file, one module each."""
