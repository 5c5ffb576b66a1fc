"""Hands loaded observations to other programs: Parquet files, tables of DuckDB, pictures."""
