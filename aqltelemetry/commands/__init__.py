"""The command `aqltelemetry`: one module for each of its commands.

May import: views, shipping, audit, reading, runtime, sinks, journal, system, demo, autostart.
"""
