"""What makes a run safe to kill: units published one by one, what is known, the seal, the lock.

And how far any long step is, of a run or of another command: `progress`.
"""
