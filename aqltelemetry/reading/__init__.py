"""From published files to data. Imports only the names, times and errors below it."""
