"""The eval stage: predictions against labels."""
