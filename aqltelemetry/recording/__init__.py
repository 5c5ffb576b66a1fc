"""Where a block or a value becomes a record in a segment.

May import: journal, system.
"""
