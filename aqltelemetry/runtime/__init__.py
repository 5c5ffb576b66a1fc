"""The life of a recording: start, sampling, delivery to sinks, control, stop.

May import: shipping, sinks, samplers, stalls, recording, journal, autopsy, system.
"""
