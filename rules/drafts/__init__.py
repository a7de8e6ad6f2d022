"""The rules of drafts: features of scenes, sums by block, the model, its maps and their evaluation."""
