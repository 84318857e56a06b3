"""How packets flow: the ladder of a capture, and the anatomy of one packet."""
