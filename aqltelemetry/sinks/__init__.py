"""Where batches of observations are kept."""
