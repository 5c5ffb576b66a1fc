"""Requests to aiohttp applications."""
