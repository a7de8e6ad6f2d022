"""Prediction of many images with a bundle: what the words name, what is up to date, and what was made from what."""
