"""Questions that are asked of feature files beside training: which backbone, how many images."""
