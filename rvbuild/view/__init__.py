"""The local web page of a project: its scenes as maps, where predictions are wrong, and the build beside it."""
