"""``lab ladder`` and ``lab anatomy``: how packets flow, and what one of them is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lab.cli.commands import command, print_json
from lab.cli.options import Json
from lab.errors import CaptureError, UsageError

if TYPE_CHECKING:
    from lab.flow.anatomy.anatomies import Anatomy
    from lab.flow.drawn import Drawn
    from lab.taps.captures import Capture

_FILE = typer.Argument(metavar="FILE", help="the capture: pcap or pcapng; - is standard input")
_LARGE = typer.Option("--large", help="with letters for a projector")
_OUTPUT = typer.Option(
    "-o", "--output", metavar="FILE", help="write a page (.html), a picture (.png, .svg, .pdf) or text (.txt)"
)
_OF_LADDERS = """

Times count from the first packet that is shown, sequence numbers from the beginning of each stream. The names beside
the lines are TCP's states, as the packets tell them. What is beyond --rows is folded: first what only carries data or
acknowledges it. Without --flow the first conversations are shown, on one interface where several saw them.
"""
_OF_ANATOMIES = """

A checksum is good, bad, or left to the device: on lo nobody ever fills it in. With --blank, fields are left out as an
exercise: name them (IP.ttl,ICMP.type), or say how many; --solution prints what they are.
"""


@command("lab ladder web.pcapng -o web.html", more=_OF_LADDERS)
def ladder(
    file: Annotated[str, _FILE],
    filter: Annotated[  # noqa: A002 - as the option is called
        str | None, typer.Option("-f", "--filter", metavar="BPF", help="only packets that match, such as 'tcp port 80'")
    ] = None,
    flow: Annotated[
        str, typer.Option("--flow", metavar="N[,N…]", help="these conversations, as lab read --flows numbers them")
    ] = "",
    by: Annotated[str, typer.Option("--by", metavar="endpoint|process", help="what has a column")] = "endpoint",
    both_copies: Annotated[
        bool, typer.Option("--both-copies", help="on lo: each packet as it goes out, and as it comes in")
    ] = False,
    rows: Annotated[int, typer.Option("--rows", metavar="N", help="at most; the rest is folded")] = 40,
    to_scale: Annotated[bool, typer.Option("--to-scale", help="distances are times")] = False,
    large: Annotated[bool, _LARGE] = False,
    output: Annotated[Path | None, _OUTPUT] = None,
    as_json: Json = False,
) -> None:
    """Draw the conversations of a capture: their packets as arrows between both ends, one below the other."""
    flows = _numbers(flow)
    with _opened(file, filter, output) as capture:
        found = capture.ladder(*flows, by=by, both_copies=both_copies, packets=rows, to_scale=to_scale, large=large)
        _show(found, found.to_json(), capture, output, as_json)
        if fault := capture.frames.fault:
            raise CaptureError(fault)


@command("lab anatomy ping.pcapng --frame 1 --beside 2 -o ping.png", more=_OF_ANATOMIES)
def anatomy(
    file: Annotated[str, _FILE],
    frame: Annotated[int, typer.Option("--frame", metavar="N", help="its number, from 1")] = 1,
    beside: Annotated[
        int | None, typer.Option("--beside", metavar="N", help="another frame, compared with it field by field")
    ] = None,
    blank: Annotated[
        str, typer.Option("--blank", metavar="FIELD[,FIELD…]|N", help="fields to be found by the reader")
    ] = "",
    seed: Annotated[int, typer.Option("--seed", help="of the fields that --blank N draws")] = 0,
    solution: Annotated[
        bool, typer.Option("--solution", help="print what the blank fields are, and nothing else")
    ] = False,
    large: Annotated[bool, _LARGE] = False,
    output: Annotated[Path | None, _OUTPUT] = None,
    as_json: Json = False,
) -> None:
    """Draw the bytes of one packet field by field, with what each value means."""
    from lab.flow.anatomy.anatomies import anatomy

    if beside is not None and blank:
        raise UsageError("--beside and --blank together: give one")
    if solution and not blank:
        raise UsageError("--solution is of an exercise: give --blank as well")
    if solution and output is not None:
        raise UsageError("--solution is printed, and -o takes the exercise: give one")
    with _opened(file, None, output) as capture:
        found = anatomy(_frame(capture, frame), large=large)
        if beside is not None:
            both = found.beside(_frame(capture, beside))
            _show(both, both.to_json(), capture, output, as_json)
            return
        if blank:
            found = found.blank(count=int(blank), seed=seed) if blank.isdecimal() else found.blank(*blank.split(","))
        if solution:
            _show_solution(found, as_json)
        else:
            _show(found, found.to_json(), capture, output, as_json)


def _show_solution(exercise: Anatomy, as_json: bool) -> None:
    """The fields that were left out, and nothing else."""
    solved = exercise.solution
    found = [
        (f"{layer.name}.{field.name}", known)
        for layer, full in zip(exercise.layers, solved.layers, strict=True)
        for field, known in zip(layer.fields, full.fields, strict=True)
        if field.blank
    ]
    if as_json:
        print_json({"format": 1, "fields": [{"field": name, **field.to_json()} for name, field in found]})
        return
    for name, field in found:
        print(f"{name}  {field.text}" + (f"  {field.meaning}" if field.meaning else ""))


def _numbers(text: str) -> tuple[int, ...]:
    """``"0,2"`` → (0, 2)"""
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"--flow {text}: give numbers of conversations, such as 0,2 (lab read --flows lists them)")
    return tuple(map(int, parts))


def _opened(file: str, filter: str | None, output: Path | None) -> Capture:  # noqa: A002 - as everywhere
    """The capture, if what is to come of it can be written."""
    from lab.flow.drawn import check_name
    from lab.taps.captures import read

    if output is not None:
        check_name(output)
    return read(file, filter=filter)


def _frame(capture: Capture, number: int) -> Any:
    count = len(capture)
    if not 1 <= number <= count:
        has = f"has {count:,}" if count else "has none"
        raise UsageError(f"no frame {number}: {capture.path} {has}")
    return capture[number - 1]


def _show(drawn: Drawn, document: dict[str, Any], capture: Capture, output: Path | None, as_json: bool) -> None:
    if output is not None:
        drawn.save(output)
    if as_json:
        print_json(document | {"file": capture.path, "output": output and str(output)})
    else:
        print(drawn if output is None else output)
