"""What is asked for -> a frozen graph with its weights."""
