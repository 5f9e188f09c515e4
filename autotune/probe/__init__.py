"""Runs on parts of the data, and the forecast for more data that follows from them."""
