"""The incremental core: what an artifact is, whether it is up to date, why not, and how it is rebuilt.

Read in this order: `artifact` (what a rule declares), `fingerprint` (digests of files), `store` and `state` (stored
results and records), `decide` (one pure function), `plan` (the whole graph), `execute` (one artifact, crash-safe),
`workers` (where stages run), `engine` (doit), `seal` (the shortest way to "nothing to do").
This package does not depend on imagery.
"""
