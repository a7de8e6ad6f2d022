"""Make for geospatial deep learning: a TOML project in, exact incremental artifacts out."""

__version__ = "0.1.0"
