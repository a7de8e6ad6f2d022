"""Vector files of predictions: regions of classes as polygons, buildings or points."""
