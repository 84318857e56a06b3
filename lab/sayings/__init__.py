"""What is said of loopback, put to the test: statements, claims, and the worlds in which each claim holds or not.

``statements.toml`` numbers what is said. A *claim* (``claim.py``) is one sentence that can be wrong. Its experiment is
carried out in a private world (``scene.py``), and comes to *outcomes*: cases in which it was so, or was not. They alone
decide the status. Every claim also names a change that turns it round, and the tests make it: a claim that nothing can
refute says nothing. Claims stand in one module a subject, and ``catalogue.py`` has them all.
"""
