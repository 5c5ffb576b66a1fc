"""Where requests are recorded: aiohttp, ASGI, WSGI, Gunicorn.

May import: autostart, runtime, samplers, recording, journal, system.
"""
