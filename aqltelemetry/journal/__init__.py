"""The crash-proof buffer between recording an observation and publishing it.

May import: system.
"""
