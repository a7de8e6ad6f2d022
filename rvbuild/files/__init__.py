"""Access to input files: on servers, inside zips, and in formats that need care."""
