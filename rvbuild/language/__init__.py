"""Languages in project files: filters, expressions over bands, and references to users' own functions."""
