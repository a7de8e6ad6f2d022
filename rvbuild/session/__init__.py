"""Work with projects, without a terminal: load, plan, check and build them, and return results as data.

Printing and asking is up to the callers: the command, `rvbuild.api` and plain doit.
"""
