"""Everything that is written for people: rasters, polygons, styles, mosaics and pictures."""
