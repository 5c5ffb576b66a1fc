"""Says in sentences what is wrong in a recording: `find.find(db)` returns a list of `Finding`."""
