"""Puzzles: a private world in which one thing about loopback is wrong, for whoever wants to find out what.

``faults.py`` has what can be wrong, each with how it is planted and one way to mend it. ``shop.py`` is the web server
that everybody misses, ``health.py`` asks whether all is well again, ``playing.py`` is the game from its beginning to
its end, and ``guard.py`` clears away behind it. All of it happens in a network, and with files, that nobody else sees.
"""
