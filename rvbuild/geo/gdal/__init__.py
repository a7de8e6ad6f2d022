"""How GDAL is used: which files it may open, with which drivers, without writing beside them."""
