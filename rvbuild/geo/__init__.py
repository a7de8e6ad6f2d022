"""Rasters, vectors and pixel grids: everything that touches GDAL."""
