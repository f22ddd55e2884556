"""Right and wrong predictions -> scores with intervals; near-copies among the scored."""
