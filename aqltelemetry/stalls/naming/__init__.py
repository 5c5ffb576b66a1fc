"""Names what a blocked thread is in: the request that it handles, and what it waits on."""
