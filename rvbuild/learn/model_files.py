"""The names of the files that a trained model consists of; no torch here."""

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
