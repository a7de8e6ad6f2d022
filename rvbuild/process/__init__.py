"""The current process: its module path, its environment variables, its threads, its memory."""
