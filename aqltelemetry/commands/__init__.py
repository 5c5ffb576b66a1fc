"""The command `aqltelemetry`: one module for each of its commands.

May import: views, archive, dumps, shipping, audit, reading, runtime, sinks, journal, system, demo,
autostart, autopsy.
"""
