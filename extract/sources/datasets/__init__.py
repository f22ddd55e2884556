"""Data sets that have a name, and parquet files: read by the libraries that they were made for."""
