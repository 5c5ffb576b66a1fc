"""What people look at, drawn from recorded data.

May import: reading, hosts, sinks, journal, system.
"""
