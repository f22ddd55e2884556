"""A request -> a frozen graph with its weights."""
