"""Hands loaded observations to other programs: as Parquet files, or as tables of DuckDB."""
