"""Studies made by hand: no socket, no world, known answers."""

from __future__ import annotations

import numpy as np
import pytest

import lab
from lab.records import LATE, LOST, RECEIVED, RECORD
from lab.studies import Study, counts


@pytest.fixture
def records():
    """Builds the records of a run from its delays in ns; None is a lost probe, a negative delay a late one."""

    def build(rtts, start_ns=1_000_000_000):
        made = np.zeros(len(rtts), RECORD)
        for i, rtt in enumerate(rtts):
            made[i]["due_ns"] = made[i]["tx_ns"] = start_ns + i * 1_000_000
            made[i]["tx_done_ns"] = made[i]["tx_ns"] + 100
            made[i]["status"] = LOST if rtt is None else LATE if rtt < 0 else RECEIVED
            if rtt is not None:
                made[i]["rx_ns"] = made[i]["tx_ns"] + abs(rtt)
                made[i]["reply_ttl"] = 64
        return made

    return build


@pytest.fixture
def study(tmp_path, records):
    """Builds a study from {(link, family, probe): [delays of round 1, of round 2, …]}."""

    def build(runs, *, complete=True, name="study", **more):
        document = {"version": "0", "experiment": {}, "seed": 1, "host": {}, "skipped": [], "warnings": [], **more}
        made = Study.create(tmp_path / name, document)
        for (link, family, probe), rounds in runs.items():
            shm = {"wait": "spin", "placement": "cross-cpu"} if link == "shm" else {}
            condition = lab.Condition(link=link, family=family, probe=probe, **shm)
            for number, rtts in enumerate(rounds, 1):
                rows = records(rtts)
                made.add_run(condition, rows, {"round": number, **counts(rows)})
        made.finish() if complete else made.save()
        return made

    return build
