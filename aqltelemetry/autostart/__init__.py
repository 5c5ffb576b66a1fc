"""Put first on PYTHONPATH by `aqltelemetry run`: what Python runs at its start."""
