"""The data files of the demo, shaped like galaxy dumps: gzipped JSON lists of systems, bodies, stations and prices.

    dumps.py make DIRECTORY [--files 200] [--seed 7]
    dumps.py change DIRECTORY [--files 3]
    dumps.py config DIRECTORY --file FILE --url URL --manifests DIR --data DIR [--stages FILE]

Invariants:

- The same arguments give the same bytes with the same version of Python.
- One file in ten is a copy of another file. `change` changes neither copies nor their originals.
- A changed file is replaced atomically, so a server that is reading it continues with the old one.

It does not serve the files: see `serve.py`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import signal
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE_BYTES_MIN = 2_000
SIZE_BYTES_MAX = 100_000
ROWS_ADDED = 5
"""Rows that `change` adds to a file."""

STARS = ("K (Yellow-Orange) Star", "M (Red dwarf) Star", "G (White-Yellow) Star", "Neutron Star")
PLANETS = ("Icy body", "Rocky body", "High metal content world", "Class I gas giant", "Earth-like world")
ECONOMIES = ("Agriculture", "Extraction", "High Tech", "Industrial", "Refinery", "Tourism")
SERVICES = ("market", "shipyard", "outfitting", "refuel", "repair", "restock", "contacts")
GOODS = ("Algae", "Aluminium", "Beer", "Cobalt", "Fish", "Gold", "Grain", "Palladium", "Robotics", "Silver", "Tea")


# -- rows --------------------------------------------------------------------------------------------------------------


def _date(chance: random.Random) -> str:
    return f"2024-{chance.randint(1, 12):02}-{chance.randint(1, 28):02} {chance.randint(0, 23):02}:{chance.randint(0, 59):02}:00+00"


def _name(chance: random.Random) -> str:
    letters = "".join(chance.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=3))
    return f"Col {chance.randint(1, 400)} Sector {letters[:2]}-{letters[2]} d{chance.randint(1, 99)}"


def _number(chance: random.Random) -> int:
    return chance.getrandbits(44)


def _system(chance: random.Random) -> dict[str, Any]:
    coords = {axis: round(chance.uniform(-5000, 5000) * 32) / 32 for axis in "xyz"}
    return {"id64": _number(chance), "name": _name(chance), "coords": coords, "date": _date(chance)}


def _body(chance: random.Random) -> dict[str, Any]:
    kind, names = chance.choice((("Star", STARS), ("Planet", PLANETS)))
    return {
        "id64": _number(chance),
        "bodyId": chance.randint(0, 60),
        "systemId64": _number(chance),
        "name": f"{_name(chance)} {chance.randint(1, 12)}",
        "type": kind,
        "subType": chance.choice(names),
        "distanceToArrival": round(chance.uniform(0, 5000), 3),
        "surfaceTemperature": chance.randint(20, 9000),
        "updateTime": _date(chance),
    }


def _station(chance: random.Random) -> dict[str, Any]:
    return {
        "id": _number(chance),
        "name": f"{chance.choice(GOODS)} {chance.choice(('Dock', 'Port', 'Hub', 'Vision'))}",
        "systemId64": _number(chance),
        "primaryEconomy": chance.choice(ECONOMIES),
        "distanceToArrival": round(chance.uniform(0, 5000), 3),
        "services": sorted(chance.sample(SERVICES, chance.randint(1, len(SERVICES)))),
        "updateTime": _date(chance),
    }


def _price(chance: random.Random) -> dict[str, Any]:
    goods = sorted(chance.sample(GOODS, chance.randint(1, 6)))
    return {
        "stationId": _number(chance),
        "commodities": [
            {"name": name, "buyPrice": chance.randint(10, 20_000), "demand": chance.randint(0, 5000)} for name in goods
        ],
        "updateTime": _date(chance),
    }


DATASETS: dict[str, tuple[Callable[[random.Random], dict[str, Any]], int]] = {
    "systems": (_system, 38),
    "bodies": (_body, 49),
    "stations": (_station, 37),
    "prices": (_price, 43),
}
"""For each dataset: how to make a row, and the approximate compressed bytes per row."""


# -- files -------------------------------------------------------------------------------------------------------------


def _packed(rows: list[dict[str, Any]]) -> bytes:
    """Return a compressed JSON list, one row per line, without a time in its header."""
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    return gzip.compress(f"[\n{lines}\n]\n".encode(), compresslevel=6, mtime=0)


def _dump(dataset: str, chance: random.Random) -> bytes:
    make_row, row_bytes = DATASETS[dataset]
    size_bytes = (
        SIZE_BYTES_MIN * (SIZE_BYTES_MAX / SIZE_BYTES_MIN) ** chance.random()
    )  # log-uniform: as many small files as large ones
    return _packed([make_row(chance) for _ in range(max(1, int(size_bytes / row_bytes)))])


def make(folder: Path, files: int, seed: int) -> str:
    """Write the files; return a summary line."""
    contents: list[bytes] = []
    for number in range(files):
        dataset = list(DATASETS)[number % len(DATASETS)]
        # Every tenth file copies the previous file of its dataset, which is never a copy itself.
        copied = number % 10 == 9
        data = contents[number - len(DATASETS)] if copied else _dump(dataset, random.Random(f"{seed}/{number}"))
        contents.append(data)
        _replace(folder / dataset / f"{dataset}-{number:03}.json.gz", data)
    copies = len(contents) - len(set(contents))
    size_mb = sum(map(len, contents)) / 1e6
    return f"{files} files in {folder}, {copies} of them copies of others, {size_mb:.1f} MB"


def change(folder: Path, files: int) -> str:
    """Add rows to this many files, spread over the directory; return a line that names them."""
    by_content: defaultdict[str, list[Path]] = defaultdict(list)
    for path in _dumps(folder):
        by_content[hashlib.sha256(path.read_bytes()).hexdigest()].append(path)
    single = sorted(paths[0] for paths in by_content.values() if len(paths) == 1)
    if len(single) < files:
        raise SystemExit(f"{folder} has {len(single)} files without a copy, too few to change {files}")
    chosen = [single[number * len(single) // files] for number in range(files)]
    for path in chosen:
        _grow(path)
    return f"changed: {', '.join(path.relative_to(folder).as_posix() for path in chosen)}"


def _grow(path: Path) -> None:
    data = path.read_bytes()
    chance = random.Random(data)
    make_row, _ = DATASETS[path.parent.name]
    _replace(path, _packed(json.loads(gzip.decompress(data)) + [make_row(chance) for _ in range(ROWS_ADDED)]))


def _dumps(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.json.gz"))


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def config(folder: Path, file: Path, url: str, manifests: Path, data: Path, stages: Path | None) -> str:
    """Write the configuration of a job that fetches every file, and runs these stages; return a summary line."""
    sources = [
        {
            "source_id": path.name.removesuffix(".json.gz"),
            "dataset": path.parent.name,
            "url": f"{url.rstrip('/')}/{path.relative_to(folder).as_posix()}",
        }
        for path in _dumps(folder)
    ]
    document = {
        "etl_version": "1.0.0",
        "manifests_dir": str(manifests),
        "data_dir": str(data),
        "manifest": "galaxy_download",
        "defaults": {"jobs": 4},
        **({} if stages is None else {"stages": json.loads(stages.read_text("utf-8"))}),
        "sources": sources,
    }
    members = (f"  {json.dumps(name)}: {_value(value)}" for name, value in document.items())
    _replace(file, "{{\n{}\n}}\n".format(",\n".join(members)).encode())
    return f"{len(sources)} sources in {file}"


def _value(value: Any) -> str:
    """Return a value as JSON: a source and a stage take one line each."""
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n    {}\n  ]".format(",\n    ".join(map(json.dumps, value)))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    parser = argparse.ArgumentParser(
        description="Make and change the data files of the demo, and write its configuration."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    making, changing, listing = (verbs.add_parser(verb) for verb in ("make", "change", "config"))
    for one in (making, changing, listing):
        one.add_argument("folder", type=Path)
    making.add_argument("--files", type=int, default=200)
    making.add_argument("--seed", type=int, default=7)
    changing.add_argument("--files", type=int, default=3)
    listing.add_argument("--url", required=True)
    for name in ("--file", "--manifests", "--data"):
        listing.add_argument(name, type=Path, required=True)
    listing.add_argument("--stages", type=Path)
    given = vars(parser.parse_args())
    actions: dict[str, Callable[..., str]] = {"make": make, "change": change, "config": config}
    print(actions[given.pop("verb")](**given))


if __name__ == "__main__":
    main()
