"""What makes a run safe to kill: units published one by one, what is known, the seal, the lock."""
