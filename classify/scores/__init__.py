"""Right and wrong predictions -> scores with intervals; near-duplicates among the scored."""
