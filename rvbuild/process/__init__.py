"""The process that runs: where its modules come from, its environment variables, its threads."""
