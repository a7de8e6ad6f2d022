"""Access to input files wherever they are: on servers, inside zips, in formats that need care."""
