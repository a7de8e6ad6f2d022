"""The commands about experiments: sweeps, their points, and folds."""
