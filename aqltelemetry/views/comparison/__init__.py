"""Compares two recordings: what got slower, faster, rarer or more faulty, and how certainly."""
