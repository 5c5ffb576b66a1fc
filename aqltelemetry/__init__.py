"""An always-on flight recorder for Python services."""
