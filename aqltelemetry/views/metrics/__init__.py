"""Serves a recording to Prometheus.

`scrape` reads what is new at each scrape, `totals` adds it up, `collector` names it.
"""
