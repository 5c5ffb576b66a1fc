"""What people look at: summaries of recorded data, as text.

May import: reading, sinks, journal, system.
"""
