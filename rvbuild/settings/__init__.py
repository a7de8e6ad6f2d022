"""The types of the settings that cross from a project file to the code that uses them: plain dicts, described.

A table of a project returns its settings as one of these types (`Table.stage_settings`), a rule puts several together,
and a stage hands each to the function that uses it. At run time they are dicts of JSON data, so that a worker, a key
and a bundle take them as they are; `mypy --strict` checks every key on the way, and `tests/test_settings.py` that the
tables return what they declare. A key is `NotRequired` if settings omit it, mostly because it is at its default; see
`omitted_defaults` of `rvbuild.project.toml.table.Table`.

One module per concern. The settings of a whole stage are declared beside the stage, in `rvbuild.stages`.
"""
