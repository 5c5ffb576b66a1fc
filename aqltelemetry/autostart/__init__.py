"""What Python runs at its start in the processes below `aqltelemetry run`.

May import: nothing.
"""
