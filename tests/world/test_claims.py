"""Every claim comes to what is expected of it here, and to something else in the world that refutes it."""

from __future__ import annotations

import errno
import json
import signal
from types import SimpleNamespace

import pytest

import lab
from lab.sayings.catalogue import CLAIMS
from lab.sayings.claim import NOT_TESTED
from lab.sayings.scene import Scene
from lab.sayings.trials import put_to_test


@pytest.fixture(autouse=True)
def _world(world):
    """Skips where no private world can be made."""


def tried(claim, missing, *, refuted):
    verdict = put_to_test(claim, refuted=refuted)
    if verdict.status == NOT_TESTED:
        missing(f"{claim.id}: {verdict.evidence}")
    assert verdict.outcomes
    assert all(outcome.case and outcome.evidence for outcome in verdict.outcomes)
    json.dumps(verdict.to_json())
    return verdict


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_comes_to_what_is_expected(claim, missing):
    verdict = tried(claim, missing, refuted=False)
    assert verdict.status == claim.expected, verdict
    if claim.captured:
        assert verdict.capture.lossless


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_its_refuting_world_turns_it_round(claim, missing):
    verdict = tried(claim, missing, refuted=True)
    assert verdict.status == claim.refuted_by.becomes, verdict
    assert verdict.status != claim.expected


def test_without_rights_every_claim_has_a_status(run):
    done = run("claims", "--json", faults=("no-rights",), timeout=900)
    assert done.returncode == 0, done.stderr
    items = {item["id"]: item for item in json.loads(done.stdout)["items"]}
    assert list(items) == [claim.id for claim in CLAIMS]
    for claim in CLAIMS:
        item = items[claim.id]
        assert item["evidence"]
        assert item["status"] in (claim.expected, NOT_TESTED), item
        assert item["status"] != NOT_TESTED or item["fix"]


def test_asking_for_what_there_is_not():
    with pytest.raises(lab.UsageError, match="there is no claim 'nope': give the id of one that lab claims lists"):
        lab.claims("nope")


def test_a_machine_without_ipv6():
    from dataclasses import replace

    def without(scene):
        scene.world.remove_address("lo", "::1/128")

    claim = next(claim for claim in CLAIMS if claim.id == "refused-open")
    verdict = put_to_test(replace(claim, experiment=lambda scene: without(scene) or claim.experiment(scene)))
    assert verdict.status == NOT_TESTED
    assert verdict.evidence == "a server could not be started: EADDRNOTAVAIL (Cannot assign requested address)"
    assert "Switch IPv6 on" in verdict.fix


def test_what_the_kernel_refuses_costs_one_claim_alone():
    """And is no trouble with the output, as which an OSError would be told at the end of the command."""
    from dataclasses import replace

    def refused(_scene):
        raise OSError(errno.ENOBUFS, "no room")

    claim = next(claim for claim in CLAIMS if claim.id == "hops-ttl")
    verdict = put_to_test(replace(claim, experiment=refused))
    assert verdict.status == NOT_TESTED
    assert verdict.evidence == "the experiment could not be made: ENOBUFS (No buffer space available)"
    assert verdict.fix


def test_an_interrupted_program_is_ended(world):
    """Ctrl-C at the terminal does not reach it."""
    scene = Scene(world)
    started = []

    def popen(*args, **options):
        started.append(world.popen(*args, **options))
        return started[0]

    def interrupt(_number, _frame):
        raise KeyboardInterrupt

    scene.world = SimpleNamespace(popen=popen)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            scene.run("sleep", "100")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert [program.returncode for program in started] == [-signal.SIGKILL]
