"""One run folder into one HTML page that opens offline and can be shown to somebody."""
