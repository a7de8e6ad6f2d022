"""Care of a store: what it holds, what can go, and whether it is whole."""
