"""The step from a validated file to a project: paths, scenes, and checks across scenes."""
