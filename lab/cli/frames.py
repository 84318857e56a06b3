"""``lab read``: a capture file, as frames or as what they mean."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lab.checks import check_count
from lab.cli.commands import command, note, print_json
from lab.cli.options import Json
from lab.errors import CaptureError, Unavailable, UsageError

if TYPE_CHECKING:
    import polars as pl

    from lab.taps.captures import Capture
    from lab.taps.findings import Findings
    from lab.taps.frames import FrameFile

_HELP = """

FILE is pcap or pcapng, whoever wrote it; - is standard input. Where it is cut short or damaged, all that comes before
is read, and then an error tells where it ended (exit 1).

--json prints one document: of frames the counts, the interfaces and, with -c N, the first N rows of the table that -o
writes; of the others all that was found. -o writes a table (Parquet) of all frames or findings, with -c of the first.
"""
#: Rows that are held while a table is written, and frames while they are printed.
_ROWS, _LINES = 65_536, 1_024


@command("lab read ping.pcapng --transit --json", more=_HELP)
def read(
    file: Annotated[str, typer.Argument(metavar="FILE", help="the capture")],
    filter: Annotated[  # noqa: A002 - as the option is called
        str | None, typer.Option("-f", "--filter", metavar="BPF", help="only frames that match, such as 'udp port 53'")
    ] = None,
    frames: Annotated[bool, typer.Option("--frames", help="a line for each frame (default)")] = False,
    flows: Annotated[bool, typer.Option("--flows", help="who spoke with whom, and what became of it")] = False,
    rtts: Annotated[bool, typer.Option("--rtts", help="round trips that were seen in passing")] = False,
    transit: Annotated[
        bool, typer.Option("--transit", help="how long packets took through lo (captured with --both-copies)")
    ] = False,
    count: Annotated[int | None, typer.Option("-c", "--count", metavar="N", help="the first N frames only")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="TABLE", help="write a Parquet table instead of text")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read a capture file: its frames, or what they mean."""
    from lab.taps.captures import read

    views = {"frames": frames, "flows": flows, "rtts": rtts, "transit": transit}
    asked = [name for name, wanted in views.items() if wanted] or ["frames"]
    if len(asked) > 1:
        raise UsageError(f"--{asked[0]} and --{asked[1]} together: give one")
    if count is not None:
        if asked != ["frames"]:
            raise UsageError(f"-c is for frames: leave it out, or --{asked[0]}")
        check_count("count", count, high=2**63 - 1)
    with read(file, filter=filter) as capture:
        if asked == ["frames"]:
            enough = _show_frames(capture, count, output, as_json)
        else:
            enough = _show_findings(getattr(capture, asked[0])(), output, as_json)
        if not enough and (fault := capture.frames.fault):
            raise CaptureError(fault)


def print_frames(frames: FrameFile, numbers: range) -> None:
    """A line for each frame of these numbers, from 0."""
    from lab.taps.lines import DESCRIBED, describe_frames, frame_lines
    from lab.taps.tables import take

    first = frames.columns("time_ns", stop=1)["time_ns"]
    for start in range(numbers.start, numbers.stop, _LINES):
        some = range(start, min(start + _LINES, numbers.stop))
        cells = describe_frames(take(frames, DESCRIBED, some), [number + 1 for number in some], int(first[0]))
        print("\n".join(frame_lines(cells)))
    sys.stdout.flush()


def _show_frames(capture: Capture, count: int | None, output: Path | None, as_json: bool) -> bool:
    """Whether all that were asked for by their count are there."""
    from lab.taps.tables import frame_table

    frames = capture.frames
    found = range(len(frames) if count is None else len(frames.columns("time_ns", stop=count)["time_ns"]))
    if output is not None:
        _write(_in_pieces(frames, found), output, as_json)
    if as_json:
        print_json(_document(capture, output, None if count is None else frame_table(frames, (), found)))
    elif output is None:
        print_frames(frames, found)
        if count is None:
            note("\n".join(replace(capture.overview, fault=None).sentences()))
    return len(found) == count


def _show_findings(findings: Findings, output: Path | None, as_json: bool) -> bool:
    if output is not None:
        _write(findings.to_polars().lazy(), output, as_json)
    if as_json:
        print_json(findings.to_json())
    elif output is None:
        print(findings)
    return False


def _document(capture: Capture, output: Path | None, rows: pl.DataFrame | None) -> dict[str, Any]:
    overview = capture.overview
    document = {
        "format": 1,
        "file": capture.path,
        "kind": capture.frames.format,
        "application": capture.frames.application,
        "interfaces": [asdict(source) for source in capture.frames.sources],
        **vars(overview),
        "lossless": overview.lossless,
        "table": output and str(output),
    }
    return document if rows is None else document | {"rows": rows.to_dicts()}


def _in_pieces(frames: FrameFile, numbers: range) -> pl.LazyFrame:
    """The table of these frames, of which a part is in memory at a time."""
    from polars.io.plugins import register_io_source

    from lab.taps.tables import frame_table

    def pieces(*_pushed_down: object) -> Iterator[pl.DataFrame]:
        for start in numbers[::_ROWS]:
            yield frame_table(frames, (), numbers[start : start + _ROWS])

    return register_io_source(pieces, schema=frame_table(frames, (), range(0)).schema)


def _write(table: pl.LazyFrame, path: Path, as_json: bool) -> None:
    try:
        with path.open("wb") as file:
            table.sink_parquet(file)
    except OSError as error:
        raise Unavailable(f"cannot write {path}", errno=error.errno, fix="Name another file with -o") from error
    if not as_json:
        print(f"table: {path}")
