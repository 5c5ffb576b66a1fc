"""Copies of the last minute of a recording, made when something goes wrong.

May import: system, journal, sinks, reading, runtime, views, audit.
"""
