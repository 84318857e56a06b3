"""How long private worlds take to make and to take down: each link alone, and all of them together.

    python tests/bench/worlds.py [--repeats 5]

Prints medians in ms, and the spread. Exit 1 if one link alone takes more than 300 ms, all of them more than 3 s, or
closing more than 1 s. A world is a helper process (a Python interpreter), its namespaces, the devices and, where there
is one, the wire.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import lab
from lab.conditions import LINKS

LIMITS_MS = {"alone": 300.0, "all": 3000.0, "down": 1000.0}


def measure(links: list[str]) -> tuple[float, float, list[str]]:
    """Milliseconds to make a world with these links and to close it, and the links that it has."""
    begun = time.perf_counter()
    world = lab.World(links)
    made = time.perf_counter()
    found = list(world.links)
    world.close()
    return 1e3 * (made - begun), 1e3 * (time.perf_counter() - made), found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    measure(["lo"])  # imports
    over = []
    print(f"{'links':12} {'made':>7} {'least…most':>13} {'closed':>7}   ms, medians of {repeats}")
    for links in [*([link] for link in LINKS), list(LINKS)]:
        runs = [measure(links) for _ in range(repeats)]
        up, down = ([run[i] for run in runs] for i in (0, 1))
        name = links[0] if len(links) == 1 else f"all {len(runs[0][2])}"
        absent = "" if runs[0][2] else "   (can't be made here)"
        made, closed = statistics.median(up), statistics.median(down)
        print(f"{name:12} {made:7.0f} {min(up):6.0f}…{max(up):<6.0f} {closed:7.0f}{absent}")
        if made > LIMITS_MS["alone" if len(links) == 1 else "all"] or closed > LIMITS_MS["down"]:
            over.append(name)
    if over:
        print(f"over the limit: {', '.join(over)}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
