"""Published files that were combined into Parquet files, and how these are encoded."""
