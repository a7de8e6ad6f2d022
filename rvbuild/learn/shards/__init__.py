"""A training in virtual shards, which any number of processes computes with the same result."""
