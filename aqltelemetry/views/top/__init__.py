"""Draws the live figures on a terminal, with textual or as plain text; it computes none."""
