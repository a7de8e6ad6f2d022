"""What users write in place of plain values: filters, expressions over bands, functions of their own."""
