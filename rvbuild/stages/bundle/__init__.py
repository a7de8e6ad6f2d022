"""The bundle: a zip that predicts anywhere, how it is written, read and signed."""
