"""One process of `bench_open`: imports a peer, opens its manifest, asks two questions, prints a JSON line, ends.

Arguments: peer, directory, checksum, source, dataset.
"""

from __future__ import annotations

import sys
import time

_BEGAN = time.perf_counter()


def memory_mb() -> dict[str, float]:
    """Peak of the resident memory, and the part of it now that is not backed by files.

    `ru_maxrss` would be the wrong figure: it survives `exec`, so a child of a large parent seems large.
    """
    found = {"VmHWM": 0.0, "RssAnon": 0.0}
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name in found:
                    found[name] = int(value.split()[0]) / 1024
    except OSError:
        pass
    return {"peak_mb": found["VmHWM"], "anon_mb": found["RssAnon"]}


def main(peer: str, directory: str, checksum: str, source_id: str, dataset: str) -> None:
    """Measure once."""
    from pathlib import Path

    from benchmarks import peers

    kind = peers.load(peer)
    before = memory_mb()
    times = [time.perf_counter()]
    opened = kind.open(Path(directory), peers.POWER_CUT, shared=False)
    times.append(time.perf_counter())
    known = opened.has(checksum)
    times.append(time.perf_counter())
    record = opened.get_by_source(source_id, dataset)
    times.append(time.perf_counter())
    memory = memory_mb()

    import json

    answer = [known, record and peers.fields(record)]
    grown = {"grown_mb": memory["anon_mb"] - before["anon_mb"]}
    steps = {"open_s": times[1] - times[0], "has_s": times[2] - times[1], "get_s": times[3] - times[2]}
    result = {"import_s": times[0] - _BEGAN, "total_s": times[-1] - times[0], "answer": answer}
    sys.stdout.write(json.dumps(result | steps | memory | grown) + "\n")
    opened.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
