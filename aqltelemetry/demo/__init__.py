"""A small real service and the client that drives it, to see recording at work.

May import: aiohttp, recording, system.
"""
