"""Made-up cities, drawn and written in the format of the real routes."""
