"""Where batches of observations are kept: CSV files, published atomically.

May import: system.
"""
