"""Edits of label files: what changes is written, and all else stays as it is, byte for byte where possible."""
