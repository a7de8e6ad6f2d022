"""The rules of experiments: artifacts over variants of a project, which only their commands build."""
