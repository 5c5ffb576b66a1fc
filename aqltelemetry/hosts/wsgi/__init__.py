"""Requests to WSGI applications."""
