"""The log of a training while it runs: a file of lines, and what else follows the epochs."""
