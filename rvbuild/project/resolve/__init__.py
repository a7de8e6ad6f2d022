"""A validated file resolved to a project: paths, scenes, what they lack, and all of it together."""
