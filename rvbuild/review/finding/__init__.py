"""How suspects are found: evidence of labels on maps of models that have not seen them, and what errors look like."""
