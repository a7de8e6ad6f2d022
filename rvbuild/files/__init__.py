"""Files that others made, wherever they are: on servers, inside zips, in formats that are read with care."""
