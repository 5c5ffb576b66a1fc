"""The metrics that monitoring systems get: their names, types, labels and buckets."""
