"""Injection: what is sent, by which way, when, and how much of it is delivered."""
