"""What the commands print on standard output: short text for people, or one JSON object."""
