"""The anatomy of a packet: its bytes, field by field.

What there is: ``dissecting`` finds it, by ``placing`` the fields of scapy's layers, saying their ``meanings``, and
verifying ``checksums``; ``comparing`` sets two side by side. How it looks: ``words`` that all drawings share, ``text``,
the ``diagram`` of ``boxes`` that ``figure`` draws, and ``page``.
"""
