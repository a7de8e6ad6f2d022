"""The train stage: chips in, a model out."""
