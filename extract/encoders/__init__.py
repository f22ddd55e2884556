"""Any callable from a batch of items to vectors, where images have a backbone.

What it is, what it is given, what it answers, and the run that keeps what it has answered.
"""
