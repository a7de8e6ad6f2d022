"""The tables about scenes: which there are, how they are split, their images, labels and areas."""
