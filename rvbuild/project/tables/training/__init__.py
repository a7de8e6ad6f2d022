"""The checks of the parts of `[train]`, each of which knows some of its keys."""
