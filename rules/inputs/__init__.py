"""The inputs of artifacts: files of scenes with their sidecars, pre-cut chips, users' own code."""
