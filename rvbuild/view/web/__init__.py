"""The web server: addresses, who may ask, events."""
