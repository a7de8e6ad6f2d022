"""The stages of reviews: labels that are probably wrong."""
