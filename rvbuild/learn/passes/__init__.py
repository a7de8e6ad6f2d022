"""What an epoch computes: the pass over the training chips, and that over the validation chips."""
