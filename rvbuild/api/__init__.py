"""The library for notebooks and other programs. `import rvbuild` provides all public names; see docs/api.md.

Heavy modules are imported where they are needed: opening a project loads neither torch nor rasterio.
"""
