"""Encoders: frozen functions from an image to features of each cell of a coarser grid."""
