"""What is measured at intervals: garbage collection, the process, the event loop.

May import: recording, system.
"""
