"""Vector files and geometries: read, reprojected, burnt to pixels."""
