"""TOML as text: reading with lines, keys, overrides, paths, and the problems that are found."""
