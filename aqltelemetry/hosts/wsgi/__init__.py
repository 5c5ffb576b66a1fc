"""RecordedApplication to WSGI applications."""
