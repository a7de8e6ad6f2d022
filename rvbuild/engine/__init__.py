"""The incremental core: what an artifact is, whether it is up to date, why not, and how it is rebuilt.

Read in this order: `keys.artifact` (what a rule declares), `store.fingerprint` (digests of files), `store.store` and
`store.state` (stored results and records), `plan.decide` (one pure function), `plan.plan` (the whole graph),
`run.execute` (one artifact, crash-safe), `run.workers` (where stages run), `run.doit` (the order of execution),
`plan.seal` (the fast path to "nothing to do").
This package does not depend on imagery.
"""
