"""Hosts of their own for clients that refuse loopback: network namespaces with an IPv4 and an IPv6 address, on one bridge.

Nothing outside the namespaces is changed. They are named after this process, removed when it ends, and, if it was
killed, by the next one that needs some.
"""

import atexit
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from harness import Host, missing

NAME = "swarm-interop-{}-{}"


def ip(*args):
    done = subprocess.run(["ip", *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"ip {' '.join(map(str, args))}: {done.stderr.strip()}")
    return done.stdout


class Network:
    """`count` hosts."""

    def __init__(self, count):
        if os.geteuid() != 0 or not shutil.which("ip"):
            missing("network namespaces need root and iproute2")
        remove_orphans()
        self.namespaces = []
        atexit.register(self.remove)
        try:
            switch = self.add("switch")
        except AssertionError as error:
            missing(f"no network namespaces: {error}")
        ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", switch, "link", "set", "bridge", "up")
        for number in range(1, count + 1):
            host, port = self.add(number), f"port{number}"
            ip("link", "add", "uplink", "netns", host, "type", "veth", "peer", "name", port, "netns", switch)
            ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            for address in (f"10.0.0.{number}/24", f"fd00::{number}/64"):
                # Else an IPv6 address could not be used for its first second.
                extra = ["nodad"] if ":" in address else []
                ip("-n", host, "address", "add", address, "dev", "uplink", *extra)
            ip("-n", host, "link", "set", "lo", "up")
            ip("-n", host, "link", "set", "uplink", "up")

    def add(self, what):
        name = NAME.format(os.getpid(), what)
        ip("netns", "add", name)
        self.namespaces.append(name)
        return name

    def host(self, number, version):
        """The host of this number, from 1 on, with its IPv4 or its IPv6 address."""
        address = f"10.0.0.{number}" if version == 4 else f"fd00::{number}"
        return Host(address, self.namespaces[number])

    def remove(self):
        while self.namespaces:
            remove(self.namespaces.pop())


def remove(namespace):
    """Removes it with whatever still runs in it."""
    for pid in ip("netns", "pids", namespace).split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
    ip("netns", "delete", namespace)


def remove_orphans():
    for line in ip("netns", "list").splitlines():
        name = line.split()[0]
        if (found := re.fullmatch(NAME.format(r"(\d+)", r"\w+"), name)) and not Path("/proc", found[1]).exists():
            remove(name)
