"""What blocked the event loop: a watchdog, the causes of stalls, and their record.

May import: sinks, system.
"""
