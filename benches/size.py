#!/usr/bin/env python3
"""What very many pieces cost: 64 GiB in pieces of 16 KiB, that is 4,194,304, through `create`, `show`, `verify`, `seed` and `get`, and 1 TB in
pieces of 256 KiB through `show` and `get --files` of one small file. Each is done with an eighth of the pieces as well: time for a
piece must not grow with their number, and memory is to stay within three times the metainfo file.

The source is a sparse file: zeros, and random bytes in a few places. `get` is killed (SIGKILL) half way, and goes on. Its copy lies on an ext4
of its own on a zram device, where zeros take no room; that needs root. `--copy DIR` uses that folder instead, which must have the room.

Memory is RssAnon, read every 5 ms: what is mapped of files does not count, and all of the program does. Time for a piece is compared by user
time: system time depends on whether the file fits into the page cache, which with an eighth of the pieces it does.
"""

import argparse
import hashlib
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

# This one says where the others are.
from transfer import TICKS_PER_S, keep, machine, size, size_text

from harness import BIN, GIB, MIB, Process

KIB = 1 << 10
PIECE = 16 * KIB
TB_PIECE = 256 * KIB
RANDOM_PLACES = 64
LONGEST_S = 1800
SAMPLE_S = 0.005


class Watched(Process):
    """A program whose time and memory are noted until it ends."""

    def __init__(self, *args):
        self.begun = time.monotonic()
        super().__init__([BIN / "swarm", *args])
        self.anon, self.user, self.system, self.ended = 0, 0, 0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self):
        folder = Path(f"/proc/{self.pid}")
        while not self.ended.wait(SAMPLE_S):
            try:
                status = (folder / "status").read_text()
                user, system = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
            except OSError:
                return
            anon = next((line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")), 0)
            self.anon = max(self.anon, int(anon) * KIB)
            self.user, self.system = max(self.user, int(user)), max(self.system, int(system))

    def find_last(self, name):
        """The last event of this name, or None."""
        return next((event for event in reversed(list(self.events)) if event.get("event") == name), None)

    def so_far(self):
        return {
            "wall_s": round(time.monotonic() - self.begun, 2),
            "user_s": round(self.user / TICKS_PER_S, 2),
            "system_s": round(self.system / TICKS_PER_S, 2),
            "anon_mib": round(self.anon / MIB, 1),
        }

    def finish(self, status=0):
        """Waits for its end; what it used."""
        self.expect(status, LONGEST_S)
        return self.over()

    def over(self):
        used = self.so_far()
        self.ended.set()
        self.thread.join()
        return used


class Zram:
    """A file system whose blocks of zeros take no memory."""

    def __init__(self, length, mount):
        control = Path("/sys/class/zram-control")
        self.id = (control / "hot_add").read_text().strip()
        self.mount, self.control = mount, control
        block = Path(f"/sys/block/zram{self.id}")
        (block / "disksize").write_text(str(length))
        (block / "mem_limit").write_text(str(4 * GIB))
        run("mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=1", f"/dev/zram{self.id}")
        mount.mkdir()
        run("mount", "-o", "discard", f"/dev/zram{self.id}", str(mount))

    def close(self):
        run("umount", str(self.mount))
        Path(f"/sys/block/zram{self.id}/reset").write_text("1")
        (self.control / "hot_remove").write_text(self.id)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{shlex.join(command)}: {done.stderr}")


def say(step, used, note=""):
    print(f"{step:34} {used['wall_s']:8.1f} s, user {used['user_s']:6.1f} s, system {used['system_s']:6.1f} s, {used['anon_mib']:7.1f} MiB {note}", flush=True)


class Pieces:
    """All steps for one format and one number of pieces."""

    def __init__(self, form, length, scratch, copies):
        self.form, self.length, self.scratch, self.copies = form, length, scratch, copies
        self.label = f"{form}, {length // PIECE:,} pieces"
        self.file, self.meta, self.state = scratch / "it.bin", scratch / f"{form}.meta", scratch / "state"
        self.regions = {}
        self.steps = {}

    def note(self, step, used, note=""):
        say(f"{self.label}: {step}", used, note)
        self.steps[step] = used

    def fill(self):
        rng = random.Random(1)
        with open(self.file, "wb") as file:
            file.truncate(self.length)
            for _ in range(RANDOM_PLACES):
                at = rng.randrange(self.length - MIB)
                file.seek(at)
                file.write(rng.randbytes(MIB))
                self.regions[at] = None
        with open(self.file, "rb") as file:
            # Some may overlap.
            for at in self.regions:
                file.seek(at)
                self.regions[at] = file.read(MIB)

    def measure(self):
        self.fill()
        shutil.rmtree(self.state, ignore_errors=True)
        self.meta.unlink(missing_ok=True)
        created = Watched("create", self.file, "-o", self.meta, "-l", "16KiB", "--format", self.form, "--no-date", "-q")
        self.note("create", created.finish(), "; ".join(created.output))
        self.note("show", Watched("show", self.meta, "--json").finish())
        self.note("verify", Watched("verify", self.meta, self.scratch, "--no-state", "--json").finish())
        seeding = ("seed", self.meta, self.scratch, "--state-dir", self.state, "--json", "--listen", "127.0.0.1:0")
        for step in ("seed, all checked", "seed, from its state"):
            seed = Watched(*seeding)
            seed.wait_event("checked", LONGEST_S)
            self.note(step, seed.so_far())
            if step == "seed, all checked":
                seed.stop()
                seed.over()
        try:
            if self.copies:
                self.get(seed)
        finally:
            seed.stop()
            self.steps["seed, from its state, until all is fetched"] = seed.over()
        say(f"{self.label}: seed until all is fetched", seed.so_far())
        return {
            "format": self.form,
            "pieces": self.length // PIECE,
            "metainfo_mib": round(self.meta.stat().st_size / MIB, 1),
            "steps": self.steps,
        }

    def get(self, seed):
        """A download, killed half way, and what is left of it."""
        copy = self.copies / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        address = seed.wait_event("listening")["addresses"][0]
        getting = ("get", self.meta, "-o", copy, "--peer", address, "--no-state", "--json", "--listen", "127.0.0.1:0")
        half = self.length // PIECE // 2
        with Watched(*getting) as first:
            while (first.find_last("progress") or {}).get("pieces_have", 0) < half:
                if not first.is_running() or first.find("disk_stalled"):
                    raise AssertionError(f"ended early, or has no room: {first}")
                time.sleep(0.01)
            work = copy / ".it.bin.swarm"
            written = {name: (work / name).stat().st_size for name in ("state", "journal")}
            first.kill()
            used = first.over()
        used["pieces"] = first.find_last("progress")["pieces_have"]
        used["state_bytes"] = written
        self.note("get, killed half way", used, f"{used['pieces']:,} pieces, {written}")
        with Watched(*getting) as second:
            checked = second.wait_event("checked", LONGEST_S)
            used = second.so_far()
            used["pieces"] = checked["pieces_have"]
            self.note("get again, until it goes on", used, f"{checked['pieces_have']:,} pieces")
            used = second.finish()
        used["pieces"] = self.length // PIECE - checked["pieces_have"]
        self.note("get again, until all is there", used)
        if (copy / "it.bin").stat().st_size != self.length:
            raise AssertionError("the copy has another length")
        with open(copy / "it.bin", "rb") as file:
            for at, expected in self.regions.items():
                file.seek(at)
                if file.read(MIB) != expected:
                    raise AssertionError(f"the copy differs at {at}")
        shutil.rmtree(copy)


def string(data):
    return b"%d:" % len(data) + data


def terabyte(total, scratch):
    """The metainfo of a small file and four that make it `total` bytes, and where the small one lies."""
    folder = scratch / "big"
    folder.mkdir(exist_ok=True)
    small = random.Random(2).randbytes(12 * TB_PIECE)
    (folder / "a small file").write_bytes(small)
    rest = total - len(small)
    lengths = [rest // 4] * 3 + [rest - rest // 4 * 3]
    files = [("a small file", len(small))] + [(f"large {n}", length) for n, length in enumerate(lengths)]
    pieces = -(-total // TB_PIECE)
    hashes = [hashlib.sha1(small[at : at + TB_PIECE]).digest() for at in range(0, len(small), TB_PIECE)]
    zeros = hashlib.sha1(bytes(TB_PIECE)).digest()
    last = hashlib.sha1(bytes(total - (pieces - 1) * TB_PIECE)).digest()
    listed = b"".join(b"d6:lengthi%de4:pathl%see" % (length, string(name.encode())) for name, length in files)
    meta = scratch / "big.meta"
    with open(meta, "wb") as file:
        file.write(b"d4:infod5:filesl" + listed + b"e4:name3:big12:piece lengthi%de6:pieces%d:" % (TB_PIECE, 20 * pieces))
        file.write(b"".join(hashes) + zeros * (pieces - len(hashes) - 1) + last + b"ee")
    return meta, pieces


def one_file_of(total, scratch):
    """`show` of a very large torrent, and `get` of one small file of it."""
    meta, pieces = terabyte(total, scratch)
    label, steps = f"{total / 10**12:g} TB, {pieces:,} pieces", {}

    def note(step, used):
        say(f"{label}: {step}", used)
        steps[step] = used

    note("show", Watched("show", meta, "--json").finish())
    seed = Watched("seed", meta, scratch, "--partial", "--no-state", "--json", "--listen", "127.0.0.1:0")
    try:
        seed.wait_event("checked", LONGEST_S)
        address = seed.wait_event("listening")["addresses"][0]
        copy = scratch / "one file"
        get = Watched("get", meta, "-o", copy, "--files", "a small file", "--peer", address, "--no-state", "--json", "--listen", "127.0.0.1:0")
        note("get --files of one", get.finish())
        if (copy / "big/a small file").read_bytes() != (scratch / "big/a small file").read_bytes():
            raise AssertionError("the copy differs")
        shutil.rmtree(copy)
    finally:
        seed.stop()
        note("seed of that one", seed.over())
    return {"format": "v1", "pieces": pieces, "metainfo_mib": round(meta.stat().st_size / MIB, 1), "steps": steps}


def pairs(results):
    """Each run with that of an eighth of the pieces."""
    runs = results["runs"]
    return list(zip(runs[0::2], runs[1::2]))


def markdown(results):
    host = results["machine"]
    lines = [f"# Very many pieces, {results['date']}", "", f"`{results['command']}`", ""]
    lines += [f"{host['cpu']}, {host['cores']} cores, {host['kernel']}, {host['memory_gib']} GiB; load {host['load_before']:.2f} before. Rules: `benches/size.py`.", ""]
    lines += ["Memory is RssAnon at its most; `× metainfo` is that of the whole. `× an eighth` is the user time for a piece, that with an eighth of the pieces being 1; it is left out below half a second.", ""]
    lines += ["| | pieces | metainfo MiB | wall s | user s | system s | RssAnon MiB | × metainfo | × an eighth |", "|---|---|---|---|---|---|---|---|---|"]
    for few, many in pairs(results):
        for step, used in many["steps"].items():
            before = few["steps"][step]
            rate = lambda one, of: one["user_s"] / (one.get("pieces") or of["pieces"])
            grown = f"{rate(used, many) / rate(before, few):.2f}" if before["user_s"] >= 0.5 else ""
            lines += [
                f"| {many['format']} {step} | {many['pieces']:,} | {many['metainfo_mib']} | {used['wall_s']:.1f} | {used['user_s']:.1f} | {used['system_s']:.1f} | {used['anon_mib']:.0f}"
                f" (an eighth: {before['anon_mib']:.0f}) | {used['anon_mib'] / many['metainfo_mib']:.2f} | {grown} |"
            ]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=size, default=64 * GIB)
    parser.add_argument("--formats", default="v1,v2,hybrid", type=lambda text: [form for form in text.split(",") if form])
    parser.add_argument("--total", type=float, default=1e12, help="bytes of the torrent of which one file is fetched; 0: none")
    parser.add_argument("--copy", type=Path, help="a folder for the copies, instead of a zram device")
    parser.add_argument("--no-get", action="store_true", help="fetch nothing")
    parser.add_argument("--name", help="keep the results as benches/results/DATE-CORES-NAME.json and .md")
    args = parser.parse_args()
    results = {"date": time.strftime("%Y-%m-%d"), "command": shlex.join(["just", "bench-size", *sys.argv[1:]]), "machine": machine(), "runs": []}
    build = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).resolve().parents[1] / "target"))
    zram = None
    with tempfile.TemporaryDirectory(prefix="swarm-size-", dir=build) as folder:
        scratch = Path(folder)
        try:
            copies = args.copy
            if args.formats and not args.no_get and not copies:
                zram = Zram(args.size + args.size // 8 + 2 * GIB, scratch / "zram")
                copies = zram.mount
            for form in args.formats:
                for length in (args.size // 8, args.size):
                    results["runs"].append(Pieces(form, length, scratch, None if args.no_get else copies).measure())
            for total in [int(args.total) // 8, int(args.total)] if args.total else []:
                results["runs"].append(one_file_of(total, scratch))
        finally:
            if zram:
                zram.close()
    keep(results, markdown(results), args.name)


if __name__ == "__main__":
    main()
