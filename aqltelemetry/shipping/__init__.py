"""Carries published files to other stores, each file once, in a process of its own.

May import: reading, sinks, system.
"""
