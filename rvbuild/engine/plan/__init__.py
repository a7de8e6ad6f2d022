"""Planning: whether each artifact is up to date, why not, and the fast path to `nothing to do`."""
