"""The inputs of artifacts: files of scenes with all that belongs to them, own chips, own code."""
