"""Object detection: boxes around the objects of a scene."""
