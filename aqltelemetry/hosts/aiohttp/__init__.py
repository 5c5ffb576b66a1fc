"""Requests to aiohttp applications: recorded by `private` parts of aiohttp, or as `documented`."""
