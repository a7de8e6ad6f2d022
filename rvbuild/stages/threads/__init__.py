"""Threads beside a stage: reading ahead, writing behind, blocks that are kept."""
