"""The rules of what predictions need besides a trained model."""
