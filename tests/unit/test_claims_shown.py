"""What claims came to, as a notebook shows it."""

from __future__ import annotations

from lab.sayings.catalogue import find
from lab.sayings.claim import FALSE, HOLDS, NOT_TESTED, Outcome
from lab.sayings.report import Claims, Verdict

(ASKER,) = find(["range-asker"])
SEEN = (Outcome("a ping", True, "from <127.0.0.1> & back"), Outcome("TCP", False, "ECONNREFUSED"))


def shown(**parts):
    return Claims((Verdict(ASKER, **parts),))._repr_html_()


def test_a_notebook_shows_each_case_with_what_was_seen_and_what_to_remember():
    text = shown(status=FALSE, outcomes=SEEN, notes=("one & more",), drops={"NO_SOCKET": 1200})
    assert "✓ a ping: <i>from &lt;127.0.0.1&gt; &amp; back</i><br>✗ TCP: <i>ECONNREFUSED</i>" in text
    assert "<br>one &amp; more<br>the kernel dropped meanwhile, mostly of these packets: 1,200 × NO_SOCKET<br>" in text
    assert f"<b>{ASKER.remember}</b>" in text
    assert "<p>1 claim: 1 false</p>" in text


def test_it_shows_the_change_only_where_one_was_made():
    changed = f"<i>changed:</i> {ASKER.refuted_by.text}"
    assert changed in shown(status=HOLDS, outcomes=SEEN[:1], refuted=True)
    assert ASKER.remember not in shown(status=HOLDS, outcomes=SEEN[:1], refuted=True)
    assert ASKER.remember not in str(Verdict(ASKER, HOLDS, outcomes=SEEN[:1], refuted=True))
    assert ASKER.remember.split()[0] in str(Verdict(ASKER, HOLDS, outcomes=SEEN[:1]))
    assert changed not in shown(status=HOLDS, outcomes=SEEN[:1])


def test_it_shows_why_a_claim_was_not_tested_and_the_remedy_and_nothing_to_remember():
    text = shown(status=NOT_TESTED, reason="no <curl>", fix="Install curl")
    assert "no &lt;curl&gt;<br>Install curl" in text
    assert ASKER.remember not in text


def test_it_is_one_row_for_each_claim_below_the_heads():
    verdicts = tuple(Verdict(claim, HOLDS, outcomes=SEEN[:1]) for claim in find(["range"]))
    assert Claims(verdicts)._repr_html_().count("<tr>") == 1 + len(verdicts)
