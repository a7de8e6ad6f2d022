"""Learning: chips as tensors, models, augmentation, the training loop, checkpoints."""
