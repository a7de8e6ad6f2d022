"""A bundle as a directory, in the layout of model repositories of the Hugging Face hub."""
