"""Many L2-regularised linear classifiers at once; it knows nothing of images."""
