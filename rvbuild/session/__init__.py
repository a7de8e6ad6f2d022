"""Projects at work, without a terminal: load, plan, check, build, and say what there is as data.

Whoever calls (the command, `rvbuild.api`, plain doit) prints and asks; nothing here does.
"""
