"""TOML as text: reading with line numbers, keys, overrides, paths and problems."""
