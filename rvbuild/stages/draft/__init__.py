"""The stages of drafts: features of scenes, sums by block, a model in closed form, and its map."""
