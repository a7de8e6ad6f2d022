"""The use of GDAL: the files that it may open, with which drivers, without writing beside them."""
