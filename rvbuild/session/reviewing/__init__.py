"""The review of labels: its files for users, and verdicts written into labels."""
