"""The ladder: packets as arrows between those who speak, in the order in which they were seen.

What happened: ``steps`` finds it in a capture, by ``choosing`` conversations, their ``cast`` of columns, the ``arrows``
between them with what ``tcp`` and its ``states`` tell, and ``folding`` the rest. How it looks: ``words`` that all
drawings share, ``text`` in ``cells`` of a terminal, ``figure`` and ``scale`` on a ``sheet``, and ``page``.
"""
