"""Loads published files, and what is not published yet, as pandas objects.

May import: sinks, journal, system.
"""
