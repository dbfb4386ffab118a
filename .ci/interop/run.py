#!/usr/bin/env python3
"""Runs the tests of this folder and counts them. usage: run.py [PART OF A NAME]...

Those that may run beside others (`Case.waits`) come last, each class in a process of its own, several at a time. SWARM_BIN is the folder of `swarm` and `swarm-tracker`, SWARM_INTEROP_SKIP a list of parts of names to leave out.
"""

import os
import re
import signal
import subprocess
import sys
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from harness import BIN  # noqa: E402

AT_A_TIME = 4
# Set for a process that has one class to run.
ONE_CLASS = "SWARM_INTEROP_CLASS"


class Result(unittest.TestResult):
    """A line for each test as it ends."""

    passed = 0
    subtest_failed = False

    def startTest(self, test):
        super().startTest(test)
        self.begin = time.monotonic()
        self.subtest_failed = False

    def line(self, verdict, test, more=""):
        seconds = time.monotonic() - getattr(self, "begin", time.monotonic())
        name = test.id() if hasattr(test, "id") else str(test)
        print(f"  {verdict:<7} {name:<64} {seconds:6.1f} s{more}", flush=True)

    def addSuccess(self, test):
        self.passed += 1
        self.line("ok", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.line("skip", test, f": {reason}")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.line("FAILED", test, "\n" + self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        self.line("FAILED", test, "\n" + self.errors[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            bad = self.failures if self.failures and self.failures[-1][0] is subtest else self.errors
            self.line("FAILED", subtest, "\n" + bad[-1][1])


def tests_of(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_of(test)
        else:
            yield test


def class_of(test):
    return f"{type(test).__module__}.{type(test).__qualname__}"


def run_beside(name, wanted):
    """Runs the class in a process of its own. Returns how many tests passed, failed and were skipped."""
    child = subprocess.Popen(
        [sys.executable, __file__, *wanted], env={**os.environ, ONE_CLASS: name}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    output = child.communicate()[0]
    counts = re.search(r"^interop: (\d+) passed, (\d+) failed, (\d+) skipped$", output, re.M)
    print(output[: counts.start()] if counts else output, end="", flush=True)
    return [int(count) for count in counts.groups()] if counts else [0, 1, 0]


def main():
    for program in ("swarm", "swarm-tracker"):
        if not (BIN / program).exists():
            sys.exit(f"{BIN / program} is not there: `cargo build --release --workspace --bins` first")
    # What runs is ended, and namespaces are removed, also then.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Under `nohup` it would be ignored by what is started too.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    wanted = sys.argv[1:]
    unwanted = [part for part in os.environ.get("SWARM_INTEROP_SKIP", "").split(",") if part]
    one_class = os.environ.get(ONE_CLASS)
    found = unittest.defaultTestLoader.discover(str(HERE), pattern="test_*.py")
    tests = [
        test
        for test in tests_of(found)
        if (not wanted or any(part in test.id() for part in wanted))
        and not any(part in test.id() for part in unwanted)
        and one_class in (None, class_of(test))
    ]
    seconds = {class_of(test): test.waits for test in tests if getattr(test, "waits", 0)}
    # The longest first, so that none of them is alone at the end.
    waiting = [] if one_class else sorted(seconds, key=seconds.get, reverse=True)
    result = Result()
    unittest.TestSuite(test for test in tests if class_of(test) not in waiting).run(result)
    counts = [result.passed, len(result.failures) + len(result.errors), len(result.skipped)]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for more in pool.map(lambda name: run_beside(name, wanted), waiting):
            counts = [sum(pair) for pair in zip(counts, more)]
    print(f"interop: {counts[0]} passed, {counts[1]} failed, {counts[2]} skipped")
    sys.exit(1 if counts[1] else 0)


if __name__ == "__main__":
    main()
