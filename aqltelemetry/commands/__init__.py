"""The commands of `aqltelemetry` that run beside a service, one module each."""
