"""Planning: whether each artifact is up to date, why not, and the shortest way to `nothing to do`."""
