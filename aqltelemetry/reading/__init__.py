"""From published files to pandas objects.

May import: sinks, system.
"""
