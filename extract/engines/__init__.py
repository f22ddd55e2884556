"""Engines run a frozen graph; they must agree with each other within the canary's tolerance."""
