"""What blocked an event loop or a request: a watchdog, the causes of stalls, their record.

May import: recording, sinks, system.
"""
