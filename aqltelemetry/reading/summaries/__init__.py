"""Computes the tables of a recording from its observations; nothing here reads a file."""
