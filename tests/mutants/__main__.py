"""Every mutant, or those that are named; a table of who catches what."""

from __future__ import annotations

import argparse
import sys
import time

from tests.mutants.catalogue import MUTANTS
from tests.mutants.running import run_mutants


def main(arguments: list[str]) -> int:
    """Print a line for each mutant; the exit code says whether all were caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--list", action="store_true", help="say what there is; run nothing")
    asked = parser.parse_args(arguments)
    names: list[str] = asked.names
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        print(f"There is no mutant {', '.join(sorted(unknown))}.", file=sys.stderr)
        return 2
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    width = max(len(mutant.name) for mutant in chosen)
    if asked.list:
        for mutant in chosen:
            print(f"{mutant.name:<{width}}  {mutant.does}")
        return 0
    began_at, missed_count = time.monotonic(), 0
    for verdict in run_mutants(chosen):
        missed_count += bool(verdict.trouble)
        told = f"NOT CAUGHT: {verdict.trouble}" if verdict.trouble else verdict.caught_by
        print(f"{verdict.mutant.name:<{width}}  {verdict.seconds:5.1f} s  {told}", flush=True)
    seconds = time.monotonic() - began_at
    print(f"{len(chosen) - missed_count} of {len(chosen)} mutants caught in {seconds:.0f} s")
    return 1 if missed_count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
