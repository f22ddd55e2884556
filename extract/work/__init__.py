"""References to images -> published units, here or in other processes."""
