"""The project file, its schema, and the report of all of its errors at once.

`load.load` reads a file and returns a `model.Project`, which the rules turn into artifacts. Nothing here knows pixels:
this package imports neither numpy nor torch nor rasterio, and no file is looked for before `missing.missing_files` is
asked.
"""
