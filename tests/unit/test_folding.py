"""Which packets of many are shown."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lab.flow.ladder.folding import kept


def folds(shown):
    """The lengths of runs that are not shown."""
    return [len(run) for run in "".join(" " if one else "x" for one in shown).split()]


@given(st.lists(st.integers(0, 3), max_size=300), st.integers(3, 60))
def test_no_more_rows_than_there_is_room_for_and_no_fold_of_one(interest, rows):
    shown = kept(np.array(interest, np.int64), rows)
    assert len(shown) == len(interest)
    runs = folds(shown)
    assert shown.sum() + len(runs) <= rows
    assert 1 not in runs
    assert shown.all() or len(interest) > rows


@given(st.integers(50, 5000), st.data())
def test_what_is_interesting_is_shown_while_there_is_room(count, data):
    interest = np.zeros(count, np.int64)
    turns = data.draw(st.lists(st.integers(0, count - 1), max_size=15, unique=True))
    interest[turns] = 3
    assert kept(interest, 40)[turns].all()


def test_of_the_rest_both_ends_are_shown():
    shown = kept(np.zeros(1_000_000, np.int64), 40)
    assert shown[:19].all()
    assert shown[-19:].all()
    assert folds(shown) == [1_000_000 - shown.sum()]
