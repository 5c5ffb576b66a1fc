"""Serves the page of a recording to browsers, and keeps it up to date.

Way of a change: `refresher` finds it on the thread of `recording`, `events` notifies each browser,
and the browser asks `application` for what it shows. `access` decides who may ask, `server` runs
it for `aqltelemetry serve`, `child` for an application that mounts the page.
"""
