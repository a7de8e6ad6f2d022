"""One module per stage: a function from input files and settings to output files."""
