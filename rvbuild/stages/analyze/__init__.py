"""The analyze stage: statistics of bands."""
