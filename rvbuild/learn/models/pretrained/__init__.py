"""Pretrained weights: where they are, and which tensor of theirs is which of a model."""
