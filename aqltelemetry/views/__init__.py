"""What people look at: summaries of recorded data, as text.

May import: reading, hosts, sinks, journal, system.
"""
