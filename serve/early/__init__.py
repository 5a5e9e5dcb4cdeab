"""Early forecasts: an adapter still in training against the running bank, which is not changed by it."""
