"""What the tests share: programs that are ended by their id, scratch space, trees of files, and waiting with a deadline.

Nothing here sleeps in the hope that something has happened by then, uses a fixed port, or leaves loopback.
"""

import atexit
import filecmp
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("SWARM_BIN", ROOT / "target/release")).resolve()
IN_CI = os.environ.get("CI", "") not in ("", "false")
MIB = 1 << 20
GIB = 1 << 30

# How long a program may take to start, to stop, and to do something small.
SOON = 60


def until(condition, seconds, what):
    """Polls until `condition()` is true, and returns what it gave; after `seconds` it is a failure."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.02)
    return value


def missing(reason):
    """Something that a test needs is not on this machine: a failure in CI, a visible skip elsewhere."""
    if IN_CI:
        raise AssertionError(f"{reason}; CI must have it")
    raise unittest.SkipTest(reason)


def program(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin") or missing(f"{name} is not installed")


GIVEN_PORTS, GIVING = set(), threading.Lock()
# Connections are made from ports above these, so that none of them can take one before whoever was given it opens it.
PORTS = range(10_000, 32_768)


def free_port(ip="127.0.0.1"):
    """A port that is free there, and that nobody was given before: whoever was may not have opened it yet."""
    with GIVING:
        while True:
            port = random.choice(PORTS)
            if port not in GIVEN_PORTS and is_free(ip, port):
                GIVEN_PORTS.add(port)
                return port


def is_free(ip, port):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, kind) as probe:
            try:
                probe.bind((ip, port))
            except OSError:
                return False
    return True


class Host:
    """Where a program runs, and the address that it listens on: this machine's own, or a namespace's."""

    def __init__(self, ip, namespace=None):
        self.ip, self.namespace = ip, namespace
        self.version = 6 if ":" in ip else 4

    def command(self, *args):
        """What runs this program there."""
        return ["ip", "netns", "exec", self.namespace, *args] if self.namespace else list(args)

    def endpoint(self, port):
        return f"[{self.ip}]:{port}" if self.version == 6 else f"{self.ip}:{port}"

    def free_port(self):
        # In a namespace, where nobody else asks for any, what is free here will do.
        return free_port("::1" if self.version == 6 else "127.0.0.1")


LOOPBACK = Host("127.0.0.1")
LOOPBACK6 = Host("::1")


class Process:
    """A running program. Lines of stdout that are JSON objects become `events`; the rest is kept as `output`."""

    def __init__(self, args, env=None, cwd=None):
        self.args = [str(arg) for arg in args]
        self.events, self.output = [], []
        self.changed = threading.Condition()
        self.process = subprocess.Popen(
            self.args,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
        self.pid = self.process.pid
        # For when the tests are interrupted, and no test cleans up any more.
        atexit.register(self._end)
        self.readers = [
            threading.Thread(target=self._read, args=(pipe,), daemon=True)
            for pipe in (self.process.stdout, self.process.stderr)
        ]
        for reader in self.readers:
            reader.start()

    def _read(self, pipe):
        for line in pipe:
            text = line.decode(errors="replace").rstrip("\n")
            try:
                event = json.loads(text) if text.startswith("{") else None
            except ValueError:
                event = None
            with self.changed:
                if event is None:
                    self.output.append(text)
                else:
                    self.events.append(event)
                self.changed.notify_all()
        pipe.close()

    def __str__(self):
        told = [event for event in self.events[:-1] if event.get("event") != "progress"] + self.events[-1:]
        tail = [json.dumps(event) for event in told[-8:]] + self.output[-24:]
        return " ".join(self.args) + "".join(f"\n      {line}" for line in tail)

    def find(self, name, **fields):
        """The first event of this name with these values, or None."""
        for event in list(self.events):
            if event.get("event") == name and all(event.get(k) == v for k, v in fields.items()):
                return event
        return None

    def wait_event(self, name, seconds=SOON, **fields):
        return self._wait(lambda: self.find(name, **fields), seconds, f"event {name} {fields or ''}")

    def wait_line(self, text, seconds=SOON):
        """The first line that is no event and holds `text`."""
        found = lambda: next((line for line in list(self.output) if text in line), None)
        return self._wait(found, seconds, f"a line with {text!r}")

    def _wait(self, condition, seconds, what):
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            if self.process.poll() is not None:
                self._drain()
                if value := condition():
                    return value
                raise AssertionError(f"ended with {self.process.returncode} before {what}: {self}")
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no {what} within {seconds} s: {self}")
            with self.changed:
                self.changed.wait(min(left, 0.1))
        return value

    def _drain(self):
        for reader in self.readers:
            reader.join(SOON)

    def is_running(self):
        return self.process.poll() is None

    def wait(self, seconds):
        """Waits for the end and returns the exit status."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s: {self}") from None
        self._drain()
        return status

    def expect(self, status, seconds=SOON):
        found = self.wait(seconds)
        if found != status:
            raise AssertionError(f"ended with {found}, not {status}: {self}")
        return self

    def _end(self):
        if self.is_running():
            self.process.kill()
            self.process.wait()

    def kill(self):
        """As `kill -9` does; nothing is saved."""
        self.process.kill()
        self.wait(SOON)

    def stop(self):
        """Asks it to end, and ends it if it does not."""
        if self.is_running():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait(SOON)
        self._drain()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Memory:
    """The most anonymous memory that a process had while it was watched."""

    def __init__(self, pid):
        self.path = Path(f"/proc/{pid}/status")
        self.peak = self.samples = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self):
        while not self.ended.wait(0.02):
            try:
                lines = self.path.read_text().splitlines()
            except OSError:
                return
            for line in lines:
                if line.startswith("RssAnon:"):
                    self.peak = max(self.peak, int(line.split()[1]) * 1024)
                    self.samples += 1

    def stop(self):
        self.ended.set()
        self.thread.join()
        return self.peak


def swarm(*args, status=0, seconds=600):
    """Runs `swarm` to its end and returns what it printed."""
    return Process([BIN / "swarm", *args]).expect(status, seconds)


def create(path, output, *args):
    """Makes a metainfo file of `path`, without a date so that it is the same each time."""
    swarm("create", path, "-o", output, "--no-date", "-q", *args)
    return output


def free_bytes(folder):
    return shutil.disk_usage(folder).free


class Case(unittest.TestCase):
    """A test with a scratch folder of its own, and clean-up of whatever it starts."""

    # What the test puts there at most; memory is used if there is room, else the build folder's disk.
    scratch_bytes = 64 * MIB
    on_disk = False
    # It may run beside others, since it mostly waits or measures nothing that others change: about how many seconds it takes alone, so that
    # the longest begin first. 0: nothing runs beside it.
    waits = 0

    def setUp(self):
        self.scratch = new_scratch(self.scratch_bytes, self.on_disk)
        self.addCleanup(shutil.rmtree, self.scratch, ignore_errors=True)

    def start(self, running):
        """Something that is stopped when the test ends."""
        self.addCleanup(running.stop)
        return running

    def assert_same(self, original, copy):
        difference = difference_of(Path(original), Path(copy))
        self.assertIsNone(difference, f"{copy} differs from {original}: {difference}")


def new_scratch(needed, on_disk=False):
    """A new folder with room for `needed` bytes."""
    build = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    build.mkdir(parents=True, exist_ok=True)
    places = [build] if on_disk else [Path("/dev/shm"), build]
    for place in places:
        if place.is_dir() and os.access(place, os.W_OK) and free_bytes(place) > needed * 1.05 + 256 * MIB:
            folder = Path(tempfile.mkdtemp(prefix="swarm-interop-", dir=place))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            return folder
    missing(f"no room for {needed / GIB:.1f} GiB in {' or '.join(map(str, places))}")


def fill(path, length, rng):
    """A file of `length` random bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        while length > 0:
            part = min(length, 4 * MIB)
            file.write(rng.randbytes(part))
            length -= part
    return path


def small_files(folder, count, rng):
    """`count` files of 0 to 4 KiB in folders of a hundred."""
    for i in range(count):
        fill(folder / f"{i // 1000:02}" / f"{i // 100 % 10}" / f"file {i}.dat", rng.randrange(4096), rng)
    return folder


def difference_of(original, copy):
    """What differs between two files or trees, or None."""
    if original.is_symlink() or copy.is_symlink():
        same = original.is_symlink() and copy.is_symlink() and os.readlink(original) == os.readlink(copy)
        return None if same else f"link {copy}"
    if original.is_dir() and copy.is_dir():
        theirs, ours = set(os.listdir(original)), set(os.listdir(copy))
        # A torrent holds no empty folders.
        theirs = {name for name in theirs if not is_hollow(original / name)}
        if theirs != ours:
            return f"entries {sorted(theirs ^ ours)[:5]} in {copy}"
        return next(filter(None, (difference_of(original / n, copy / n) for n in sorted(ours))), None)
    if not (original.is_file() and copy.is_file()):
        return f"{copy} is missing or no file"
    if original.stat().st_size != copy.stat().st_size:
        return f"{copy} has {copy.stat().st_size} bytes, not {original.stat().st_size}"
    filecmp.clear_cache()
    return None if filecmp.cmp(original, copy, shallow=False) else f"content of {copy}"


def is_hollow(path):
    """Whether this is a folder without a file anywhere in it."""
    return path.is_dir() and not path.is_symlink() and all(is_hollow(child) for child in path.iterdir())


def seeded(number):
    return random.Random(number)
