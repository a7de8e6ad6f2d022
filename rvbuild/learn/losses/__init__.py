"""The losses of classifications, of pixels as of chips: of points, of regions, and the user's own."""
