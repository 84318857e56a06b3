"""Addresses and names: what the registries say of them, what the kernel does with them, and who says what of a name."""
