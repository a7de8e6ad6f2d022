"""The history: versions of artifacts, and comparisons of builds."""
