"""Running: stages in workers, one artifact at a time, crash-safe."""
