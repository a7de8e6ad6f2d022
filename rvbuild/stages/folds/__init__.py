"""The stages over the models of all folds: the map of a scene, the metrics, and the mean of the weights."""
