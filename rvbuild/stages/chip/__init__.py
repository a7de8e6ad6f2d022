"""The chip stage: windows of imagery with their labels."""
