"""Says what a process died of, from what it left in the journal and in published files.

May import: journal, sinks, system.
"""
