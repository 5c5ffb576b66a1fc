"""What the files of a recording say, and whether it adds up: proof, recovery, diagnosis.

May import: reading, hosts, runtime, sinks, journal, system.
"""
