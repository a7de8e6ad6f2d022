"""The build beside the page: what is saved is noticed, and builds run in processes of their own."""
