"""Files on servers: whatever fsspec opens, by its URL."""
