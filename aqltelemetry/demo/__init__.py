"""A small real service, and what drives it, to see recording at work."""
