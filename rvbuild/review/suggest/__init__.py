"""What to label next: windows by how unlike they are to what is labelled, how unsure the model is, and rare classes."""
