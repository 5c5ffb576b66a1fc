"""The start-up hook that Python runs in the processes below `aqltelemetry run`.

May import: nothing.
"""
