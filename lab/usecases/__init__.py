"""What loopback is used for: real programs in a private world, captured, and explained from their packets.

``usecase`` says what a use case is and what it finds; each of the other modules has some, ``catalogue`` all. They are
played on a ``stage``, looked at by ``seen``, and told by ``report``; ``playing`` puts it together.
"""
