"""What a process may use is little: descriptors, address space, threads, lengths of files. It waits with the reason, or says in
one line what cannot work."""

import os
import shutil
import socket
import subprocess

from clients import Swarm, SwarmProcess
from harness import BIN, LOOPBACK, MIB, Case, Process, create, fill, missing, seeded


def limited(limit, *args, user=None):
    """The command, with this limit of its own and as another user if need be."""
    needed = [program for program in ("prlimit", "setpriv" if user else None) if program]
    for program in needed:
        if not shutil.which(program):
            missing(f"{program} is not installed")
    as_user = ["setpriv", "--reuid", str(user), "--clear-groups"] if user else []
    return [*as_user, "prlimit", f"--{limit}", *args]


class Limited(SwarmProcess):
    """`swarm` with a limit."""

    def __init__(self, limit, *args, user=None):
        quiet = ("--json", "--no-state", "--no-dht", "--no-lsd", "--listen", LOOPBACK.endpoint(0))
        Process.__init__(self, limited(limit, BIN / "swarm", *args, *quiet, user=user))


class Limits(Case):
    scratch_bytes = 320 * MIB

    def setUp(self):
        super().setUp()
        self.content = fill(self.scratch / "it.bin", 8 * MIB, seeded(1))
        self.meta = create(self.content, self.scratch / "it.meta", "-l", "64KiB")

    def seed(self):
        return self.start(Swarm.source(self.meta, self.scratch))

    def get(self, limit, peer, *args, **more):
        return self.start(Limited(limit, "get", self.meta, "-o", self.scratch / "out", "--peer", peer, *args, **more))

    def assert_one_line(self, process, status, text):
        process.expect(status, 30)
        self.assertEqual(process.find("failed")["kind"], {1: "runtime", 5: "destination"}[status], str(process))
        self.assertIn(text, process.find("failed")["message"])
        self.assertEqual([line for line in process.output if "panicked" in line or "backtrace" in line], [])

    def test_half_handshakes_leave_descriptors_for_files_and_dialling(self):
        seed = self.seed()
        get = self.get("nofile=64", seed.address, "--max-down", "4MB/s")
        host, port = get.address.rsplit(":", 1)
        strangers = [socket.create_connection((host, int(port))) for _ in range(100)]
        self.addCleanup(lambda: [stranger.close() for stranger in strangers])
        get.expect(0, 60)
        self.assert_same(self.content, self.scratch / "out" / "it.bin")

    def test_600_files_are_seeded_with_64_descriptors(self):
        # As long as files that are mapped: a map keeps its file open.
        tree, rng = self.scratch / "tree", seeded(2)
        for i in range(600):
            fill(tree / f"file {i}.dat", 80 << 10, rng)
        meta = create(tree, self.scratch / "tree.meta", "-l", "16KiB")
        seed = self.start(Limited("nofile=64", "seed", meta, self.scratch))
        gets = [self.start(Swarm.downloader(meta, self.scratch / f"out{i}", [seed.address])) for i in range(4)]
        for i, get in enumerate(gets):
            get.expect(0, 60)
            self.assert_same(tree, self.scratch / f"out{i}" / "tree")

    def test_too_little_address_space_is_one_line(self):
        get = self.get(f"as={150 * MIB}", self.seed().address)
        self.assert_one_line(get, 1, "address space (ulimit -v)")

    def test_the_address_space_that_is_asked_for_is_enough(self):
        line = self.get(f"as={150 * MIB}", self.seed().address).expect(1, 30).find("failed")["message"]
        needed = int(line.split("at least ")[1].split()[0])
        self.get(f"as={needed * MIB}", self.seed().address).expect(0, 60)
        self.assert_same(self.content, self.scratch / "out" / "it.bin")
        seed = self.start(Limited(f"as={needed * MIB}", "seed", self.meta, self.scratch))
        get = self.start(Swarm.downloader(self.meta, self.scratch / "more", [seed.address]))
        get.expect(0, 60)

    def test_files_longer_than_allowed_are_one_line(self):
        get = self.get(f"fsize={4 * MIB}", self.seed().address)
        self.assert_one_line(get, 5, "ulimit -f")
        self.assertEqual(sum(path.stat().st_size for path in self.scratch.rglob("*.part")), 0, "space was kept")

    def test_too_few_threads_are_one_line_or_enough(self):
        if os.geteuid() != 0:
            missing("the number of processes can be limited for another user only by root")
        os.chmod(self.scratch, 0o777)
        seed = self.seed()
        # Users that nobody has: only what is started here counts.
        for user, most in ((61_201, 1), (61_202, 3), (61_203, 4), (61_204, 8)):
            get = self.get(f"nproc={most}", seed.address, "--tracker", "http://localhost:9/announce", user=user)
            status = get.wait(60)
            self.assertIn(status, (0, 1), str(get))
            if status == 1:
                self.assert_one_line(get, 1, "thread")
            shutil.rmtree(self.scratch / "out", ignore_errors=True)
        self.assertEqual(status, 0, "eight are enough")
        for command in (("verify", self.meta, self.scratch), ("create", self.content, "-o", self.scratch / "new.meta")):
            done = subprocess.run(
                limited("nproc=1", BIN / "swarm", *command, user=61_205), capture_output=True, text=True
            )
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
            self.assertIn("ulimit -u", done.stderr)
