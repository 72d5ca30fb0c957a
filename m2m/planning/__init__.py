"""What a run will cost on this machine, and how to cut it down to the user's hours."""
