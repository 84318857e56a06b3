"""From what is to be injected, and where, to what came of it."""
