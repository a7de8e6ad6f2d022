"""The library: what notebooks and other programs call. `import rvbuild` gives all of it; see docs/api.md.

Each module imports what is heavy where it is needed: opening a project loads neither torch nor rasterio.
"""
