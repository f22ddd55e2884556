"""Lists of images: what is in a table, which column is what, and where the images lie."""
