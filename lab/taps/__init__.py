"""Taps: what passes an interface, as the kernel shows it to packet sockets, and the files that keep it."""
