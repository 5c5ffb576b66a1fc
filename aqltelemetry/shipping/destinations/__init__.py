"""One module for each kind of store, over its official client, which is an extra."""
