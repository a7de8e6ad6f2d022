"""The project file and its schema; all errors of a file are reported at once.

`load.load` reads a file and returns a `model.Project`, which the rules turn into artifacts. Nothing here reads pixels:
this package imports neither numpy nor torch nor rasterio, and only `missing.missing_files` checks whether the files
that a project names exist.
"""
