"""Suspects and suggestions on the page, and what users decide about them."""
