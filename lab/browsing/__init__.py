"""A real browser, Chromium, that visits a page and tells what came of it: by which address, or with which error."""

from lab.browsing.visits import Visit, browse, chromium, visiting, visits

__all__ = ["Visit", "browse", "chromium", "visiting", "visits"]
