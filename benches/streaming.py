#!/usr/bin/env python3
"""How long a video player waits, over a swarm that has twice the bit rate to give.

Several sources on loopback, each with its share of the rate, and `swarm get --stream`. The player does what players do: it reads the start, then
the end (where many formats keep their index), plays on from the start in real time, and jumps: to the middle, further, and back. Whatever it
plays it takes at the bit rate, with a buffer of half a second. Prints how long it waited for its first bytes after each jump, and how long it
stood still while it played. Wanted: no wait longer than a second after the first second.

usage: benches/streaming.py [--bit-rate BYTES_S] [--sources N] [--piece LENGTH] [--seconds S] [--rounds N] [--name NAME]
    with --name, writes benches/results/DATE-NAME-streaming.json
"""

import argparse
import http.client
import json
import os
import platform
import shutil
import sys
import time
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".ci/interop"))

from clients import Swarm  # noqa: E402
from harness import create, fill, new_scratch, seeded  # noqa: E402

WANTED_S = 1.0
CHUNK = 32 * 1024


class Player:
    """Reads a file by ranges, as a player does."""

    def __init__(self, address, length, bit_rate):
        self.at, self.length, self.bit_rate = urlsplit(address), length, bit_rate
        self.waits = []

    def open(self, start):
        connection = http.client.HTTPConnection(self.at.hostname, self.at.port, timeout=60)
        connection.request("GET", self.at.path, headers={"Range": f"bytes={start}-"})
        answer = connection.getresponse()
        if answer.status != 206:
            raise SystemExit(f"status {answer.status}")
        return connection, answer

    def peek(self, what, start, count):
        """Reads a little, all at once."""
        begun = time.monotonic()
        connection, answer = self.open(start)
        if len(answer.read(count)) != count:
            raise SystemExit("the answer is short")
        connection.close()
        self.note(what, time.monotonic() - begun)

    def play(self, what, start, seconds):
        """Plays from there in real time, and notes how long it waits to begin and whenever its buffer is empty."""
        begun = time.monotonic()
        connection, answer = self.open(start)
        had, clock, longest = 0, None, 0.0
        wanted = min(int(seconds * self.bit_rate), self.length - start)
        while had < wanted:
            chunk = answer.read(min(CHUNK, wanted - had))
            if not chunk:
                raise SystemExit("the answer is short")
            had, now = had + len(chunk), time.monotonic()
            if clock is None:
                if had >= min(wanted, self.bit_rate // 2):
                    self.note(f"{what}, to begin", now - begun)
                    clock = now
                continue
            # What was played up to here lasts until then.
            due = clock + (had - self.bit_rate // 2) / self.bit_rate
            if now > due + 0.5:
                longest = max(longest, now - due - 0.5)
                clock += now - due - 0.5
            else:
                time.sleep(max(0.0, due - now))
        connection.close()
        self.note(f"{what}, while it plays", longest)

    def note(self, what, seconds):
        self.waits.append((what, seconds))
        print(f"  {what}: {seconds:.2f} s", flush=True)


def round_of(scratch, meta, args, number):
    rate = 2 * args.bit_rate // args.sources
    sources = [Swarm.source(meta, scratch, "--max-up", f"{rate}B/s") for _ in range(args.sources)]
    folder = scratch / f"copy {number}"
    try:
        addresses = [source.address for source in sources]
        with Swarm.downloader(meta, folder, addresses, "--stream") as get:
            stream = get.wait_event("stream", 60)
            print(f"round {number}", flush=True)
            begun = time.monotonic()
            player = Player(stream["address"], args.length, args.bit_rate)
            player.peek("the start", 0, 64 * 1024)
            player.peek("the end", args.length - 64 * 1024, 64 * 1024)
            player.play("from the start", 0, args.seconds)
            for place in (0.5, 0.75, 0.3, 0.9):
                player.play(f"from {place:.0%}", int(place * args.length), args.seconds)
            print(f"  {time.monotonic() - begun:.1f} s in all", flush=True)
            return player.waits
    finally:
        for source in sources:
            source.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bit-rate", type=int, default=1_000_000, help="bytes/s")
    parser.add_argument("--sources", type=int, default=4)
    parser.add_argument("--piece", default="256KiB")
    parser.add_argument("--seconds", type=float, default=5.0, help="played from each place")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", help="keep the results under this name")
    args = parser.parse_args()
    # Long enough that most of it is not there when a jump comes.
    args.length = int(args.bit_rate * args.seconds * 24)
    scratch = new_scratch(3 * args.length)
    try:
        data = fill(scratch / "film.mkv", args.length, seeded(1))
        meta = create(data, scratch / "film.meta", "-l", args.piece)
        rounds = [round_of(scratch, meta, args, number) for number in range(args.rounds)]
    finally:
        shutil.rmtree(scratch)
    # The very first bytes wait for peers, too.
    longest = max(seconds for waits in rounds for what, seconds in waits if what != "the start")
    print(f"longest wait: {longest:.2f} s (wanted: under {WANTED_S:.0f} s)")
    if args.name:
        path = ROOT / f"benches/results/{date.today()}-{args.name}-streaming.json"
        shown = {
            "date": str(date.today()),
            "kernel": platform.release(),
            "cores": os.cpu_count(),
            "bit_rate": args.bit_rate,
            "sources": args.sources,
            "piece": args.piece,
            "seconds": args.seconds,
            "rounds": [{what: round(seconds, 3) for what, seconds in waits} for waits in rounds],
            "longest_wait_s": round(longest, 3),
        }
        path.write_text(json.dumps(shown, indent=1) + "\n")
    return 0 if longest < WANTED_S else 1


if __name__ == "__main__":
    sys.exit(main())
