"""Where requests are recorded: aiohttp, ASGI, WSGI, Gunicorn.

May import: runtime, samplers, recording, journal, system.
"""
