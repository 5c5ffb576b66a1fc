"""Proof, recovery and diagnosis: what the files of a recording say, and whether it adds up.

Imports the journal, the sinks' accounts and the formats, and no part of a recording's life.
"""
