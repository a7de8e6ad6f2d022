"""Remote stores: push, pull, and reading through in builds."""
