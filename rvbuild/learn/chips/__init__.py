"""Chips for training: stored ones and those read from scenes, augmented and loaded in batches."""
