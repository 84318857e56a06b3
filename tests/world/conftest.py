"""What modules of this folder share: recordings of real traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flow_traffic import MAKERS, Way

import lab


@pytest.fixture(scope="module")
def worlds(world, missing) -> Iterator[Callable[[str], lab.World]]:
    """Worlds by how a wire worsens their veth link; the one of ``world`` is not worsened."""
    made = {"": world}

    def worlds(impair: str) -> lab.World:
        if impair not in made:
            try:
                made[impair] = lab.World(["veth"], impair=f"{impair},by=wire")
            except lab.Unavailable as error:
                missing(str(error))
        return made[impair]

    yield worlds
    for each in made.values():
        if each is not world:
            each.close()


@pytest.fixture(scope="module")
def recorded(worlds, wait_until, tmp_path_factory) -> Callable[..., Path]:
    """The file of a maker's traffic over a link, which is recorded once.

    options: of ``Way.record``, and impair, of ``worlds``.
    """
    folder = tmp_path_factory.mktemp("recorded")
    made: dict[tuple, Path] = {}

    def recorded(name: str, link: str, family: int, *, impair: str = "", **options) -> Path:
        key = (name, link, family, impair, *options.items())
        if key not in made:
            way = Way(worlds(impair), link, family, wait_until)
            path = folder / f"{name}-{len(made)}.pcapng"
            with way.record(file=path, **options) as capture:
                MAKERS[name](way)
            assert capture.lossless
            made[key] = path
        return made[key]

    return recorded
