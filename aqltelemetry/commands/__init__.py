"""The command `aqltelemetry`: one module for each of its commands.

May import: views, audit, reading, runtime, sinks, journal, system, demo, autostart.
"""
