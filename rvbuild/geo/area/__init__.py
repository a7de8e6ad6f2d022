"""Areas of scenes: areas of interest, and spatial blocks."""
