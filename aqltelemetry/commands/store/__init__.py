"""Commands about where published files are kept."""
