"""The closed-form model of drafts: exact sums of features by class, and a linear model solved from them."""
