"""Loads published files as pandas objects.

May import: sinks, system.
"""
