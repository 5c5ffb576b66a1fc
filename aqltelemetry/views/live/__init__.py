"""The figures of a sliding time window, kept up to date at the cost of what is new."""
