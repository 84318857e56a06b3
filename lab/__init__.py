"""Loopback Lab: a packet-level laboratory for the loopback interface. The public names, loaded when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.addresses.looking import address as address
    from lab.answers import sr as sr
    from lab.bulks import Bulk as Bulk
    from lab.capturing import capture as capture
    from lab.checkup import Report as Report
    from lab.checkup import doctor as doctor
    from lab.conditions import Condition as Condition
    from lab.errors import CaptureError as CaptureError
    from lab.errors import Interrupted as Interrupted
    from lab.errors import LabError as LabError
    from lab.errors import StreamError as StreamError
    from lab.errors import StudyError as StudyError
    from lab.errors import Unavailable as Unavailable
    from lab.errors import UsageError as UsageError
    from lab.experiment import compare as compare
    from lab.firewall import FirewallRule as FirewallRule
    from lab.flow.anatomy.anatomies import Anatomy as Anatomy
    from lab.flow.anatomy.anatomies import anatomy as anatomy
    from lab.flow.ladder.ladders import Ladder as Ladder
    from lab.injecting import inject as inject
    from lab.injector.answered import Answers as Answers
    from lab.injector.result import Injection as Injection
    from lab.injector.templates import Template as Template
    from lab.listeners.telling import ports as ports
    from lab.plan import Experiment as Experiment
    from lab.resets import no_rst as no_rst
    from lab.sayings.report import Claims as Claims
    from lab.sayings.trials import claims as claims
    from lab.services import Service as Service
    from lab.single import World as World
    from lab.single import rtt as rtt
    from lab.sockets import scapy_sockets as scapy_sockets
    from lab.streams import Stream as Stream
    from lab.studies import Study as Study
    from lab.taps.captures import Capture as Capture
    from lab.taps.captures import read as read
    from lab.taps.live import LiveCapture as LiveCapture
    from lab.throughput import bulk as bulk
    from lab.usecases.playing import case as case
    from lab.usecases.report import Case as Case
    from lab.verification import verify as verify

_HOME = {
    "Anatomy": "flow.anatomy.anatomies",
    "Answers": "injector.answered",
    "Bulk": "bulks",
    "Capture": "taps.captures",
    "CaptureError": "errors",
    "Case": "usecases.report",
    "Claims": "sayings.report",
    "Condition": "conditions",
    "Experiment": "plan",
    "FirewallRule": "firewall",
    "Injection": "injector.result",
    "Interrupted": "errors",
    "LabError": "errors",
    "Ladder": "flow.ladder.ladders",
    "LiveCapture": "taps.live",
    "Report": "checkup",
    "Service": "services",
    "Stream": "streams",
    "StreamError": "errors",
    "Study": "studies",
    "StudyError": "errors",
    "Template": "injector.templates",
    "Unavailable": "errors",
    "UsageError": "errors",
    "World": "single",
    "address": "addresses.looking",
    "anatomy": "flow.anatomy.anatomies",
    "bulk": "throughput",
    "capture": "capturing",
    "case": "usecases.playing",
    "claims": "sayings.trials",
    "compare": "experiment",
    "doctor": "checkup",
    "inject": "injecting",
    "no_rst": "resets",
    "ports": "listeners.telling",
    "read": "taps.captures",
    "rtt": "single",
    "scapy_sockets": "sockets",
    "sr": "answers",
    "verify": "verification",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lab' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f"lab.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
