"""Proof, recovery and diagnosis of a recording, from its files and its journal.

May import: reading, hosts, runtime, stalls, sinks, journal, autopsy, system.
"""
