"""What stores batches of observations: CSV files that are published atomically.

May import: system.
"""
