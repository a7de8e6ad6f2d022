"""The past: versions of artifacts, and two builds compared."""
