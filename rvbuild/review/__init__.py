"""Labels that are probably wrong: suspects, the verdicts of users, and labels with these applied."""
