"""What people look at: findings, tables, charts and pages of a recording.

May import: shipping, stalls, reading, sinks, journal, system.
"""
