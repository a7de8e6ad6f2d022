"""The tables about scenes: their ids, splits, images, labels and areas."""
