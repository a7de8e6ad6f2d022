"""Threads of a stage: reading ahead, writing behind, a cache of blocks."""
