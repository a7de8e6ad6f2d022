"""What users can write in place of plain values: filters, expressions over bands, their own functions."""
