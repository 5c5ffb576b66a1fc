"""The commands that carry published files elsewhere, or into another form."""
