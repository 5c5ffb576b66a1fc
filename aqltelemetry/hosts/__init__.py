"""Where requests are recorded: aiohttp, ASGI, WSGI, Gunicorn.

A host has a `lifecycle.HostRecording`, which starts and stops the recording and counts the requests
in progress. For each request it creates a `request_record.RequestRecord`, sets its `status`, calls
`first_byte`, and ends it with the labels that `labels.RequestLabels` has for the route's template.

May import: autostart, runtime, samplers, stalls, recording, journal, system.
"""
