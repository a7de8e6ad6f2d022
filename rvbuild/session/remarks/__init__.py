"""What `status` says besides the states of artifacts."""
