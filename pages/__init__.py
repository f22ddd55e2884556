"""What one would rather look at than read."""
