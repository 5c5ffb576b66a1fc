"""Combines published CSV files into archives, which take an eighth of the space.

May import: system, sinks, reading, shipping.
"""
