"""Accepted verdicts become edits of label files: planned, tried on copies and checked, and only then put in place."""
