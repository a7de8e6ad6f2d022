"""What is looked at before work, and what is said of it."""
