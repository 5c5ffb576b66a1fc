"""Carries published files to other stores, each file once, in a process or thread of its own.

May import: reading, sinks.
"""
