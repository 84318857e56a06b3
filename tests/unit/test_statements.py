"""Every statement of the articles has a home, and every claim a statement."""

from __future__ import annotations

import pytest

from lab.checkup.examining import CHECKS
from lab.cli.commands import app
from lab.sayings.catalogue import CLAIMS
from lab.sayings.claim import DEPENDS, FALSE, HOLDS, IN_PART, STATUSES, Outcome, decide
from lab.sayings.statements import statements
from lab.usecases.catalogue import USE_CASES

COMMANDS = {command.name or command.callback.__name__ for command in app.registered_commands}


def test_numbers_run_from_one_without_a_gap():
    assert list(statements()) == list(range(1, len(statements()) + 1))


@pytest.mark.parametrize("number", statements())
def test_a_statement_has_a_home(number):
    homes = {f"claim:{claim.id}" for claim in CLAIMS if number in claim.statements} | set(statements()[number].home)
    assert homes, f"nothing answers: {statements()[number].says}"


@pytest.mark.parametrize("home", sorted({home for each in statements().values() for home in each.home}))
def test_a_home_is_there(home):
    kind, _, name = home.partition(":")
    assert kind in ("check", "command", "case")
    assert kind != "command" or name in COMMANDS
    assert kind != "check" or name in CHECKS
    assert kind != "case" or name in USE_CASES


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_says_all_that_there_is_to_say(claim):
    assert claim.statements
    assert set(claim.statements) <= set(statements())
    assert claim.expected in STATUSES[:-1]
    assert claim.refuted_by.becomes in STATUSES[:-1]
    assert claim.refuted_by.becomes != claim.expected
    for text in (claim.says, claim.prediction, claim.decided_by, claim.remember, claim.refuted_by.text):
        assert text == " ".join(text.split())
        assert text
    assert claim.says.endswith(".")
    assert claim.remember.endswith(".")


def test_ids_are_told_apart():
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("right", "mixed", "status"),
    [
        ([True, True], IN_PART, HOLDS),
        ([False], IN_PART, FALSE),
        ([True, False], IN_PART, IN_PART),
        ([True, False], DEPENDS, DEPENDS),
    ],
)
def test_cases_decide(right, mixed, status):
    assert decide([Outcome("case", each, "seen") for each in right], mixed) == status


def test_nothing_tried_decides_nothing():
    with pytest.raises(ValueError, match="without a case"):
        decide([])
