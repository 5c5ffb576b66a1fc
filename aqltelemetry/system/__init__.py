"""The interpreter and the operating system: clocks, threads, system calls, extensions.

May import: nothing.
"""
