"""Holepunching (BEP 55): a source and a downloader that are behind a router each, and meet by a third in the open who has none of the data."""

import shutil

from clients import Libtorrent, Swarm, SwarmProcess
from harness import Case, Host, create, fill, new_scratch, seeded
from homes import CHANGES_PORTS, KEEPS_PORTS, SYMMETRIC, Homes, Homes6

SECONDS = 60
QUIET = ("--no-dht", "--no-lsd", "--no-port-mapping", "-v")
# libtorrent has no TCP here, and reaches who is outside from the port that it listens on.
LIBTORRENT = [
    arg
    for name, value in {"enable_outgoing_utp": "true", "enable_outgoing_tcp": "false", "enable_incoming_tcp": "false"}.items()
    for arg in ("--set", f"{name}={value}")
]

# It fetches nothing to speak of. Who told of a peer may not be forgotten.
LIBTORRENT_RELAY = ["--set", "download_rate_limit=1000", "--set", "enable_incoming_utp=true"]


class Holepunch(Case):
    waits = 60

    @classmethod
    def setUpClass(cls):
        cls.material = new_scratch(64 << 20)
        cls.addClassCleanup(shutil.rmtree, cls.material, ignore_errors=True)
        cls.content = fill(cls.material / "it", 3_000_000, seeded(1))
        cls.meta = create(cls.content, cls.material / "it.meta")

    def internet(self, *nats):
        self.take(Homes(1, *nats))

    def take(self, homes):
        self.addCleanup(homes.remove)
        (self.relay,), (self.here, self.there) = homes.outside, homes.homes

    def swarm_relay(self):
        """It may fetch nothing: what comes to the other one has come directly."""
        args = ("--max-down", "1B/s", *QUIET)
        return self.start(Swarm.downloader(self.meta, self.scratch / "relay", [], *args, host=self.relay))

    def seed(self, relay, *args):
        return self.start(SwarmProcess("seed", self.meta, self.material, "--peer", relay.address, *QUIET, *args, host=self.there))

    def get(self, relay, *args):
        folder = self.scratch / "copy"
        return self.start(Swarm.downloader(self.meta, folder, [relay.address], *QUIET, *args, host=self.here))

    def assert_punched(self, getter, relay):
        event = getter.wait_event("holepunched", SECONDS)
        self.assertEqual(event["relay"], relay.address)
        getter.wait_complete(SECONDS)
        self.assert_same(self.content, self.scratch / "copy/it")
        self.assertIn("uTP, punched", getter.wait_line("connected addr=" + event["address"]))
        return event["address"]

    def test_two_behind_nats_that_keep_ports(self):
        self.internet(KEEPS_PORTS, KEEPS_PORTS)
        relay = self.swarm_relay()
        # It does not tell, and is not told: it does not dial by itself.
        seed = self.seed(relay, "--no-pex")
        self.assert_punched(self.get(relay), relay)
        seed.wait_event("holepunched", SECONDS)

    def test_two_behind_nats_with_ports_of_their_own(self):
        self.internet(CHANGES_PORTS, CHANGES_PORTS)
        relay = self.swarm_relay()
        self.seed(relay, "--no-pex")
        address = self.assert_punched(self.get(relay), relay)
        self.assertEqual(address, "203.0.113.3:40000")

    def test_two_behind_firewalls_over_ipv6(self):
        self.take(Homes6(1, 2))
        relay = self.swarm_relay()
        seed = self.seed(relay, "--no-pex")
        self.assert_punched(self.get(relay), relay)
        seed.wait_event("holepunched", SECONDS)

    def test_two_who_tell_each_other_of_peers(self):
        # Either of them may dial first, and both may by chance do so at the same time.
        self.internet(CHANGES_PORTS, KEEPS_PORTS)
        relay = self.swarm_relay()
        self.seed(relay)
        self.get(relay).wait_complete(SECONDS)
        self.assert_same(self.content, self.scratch / "copy/it")

    def test_a_symmetric_nat_fails_by_name(self):
        self.internet(SYMMETRIC, KEEPS_PORTS)
        relay = self.swarm_relay()
        self.seed(relay, "--no-pex")
        getter = self.get(relay)
        event = getter.wait_event("holepunch_failed", SECONDS)
        self.assertEqual(event["relay"], relay.address)
        self.assertIn("symmetric", event["reason"])
        self.assertIn("holepunching failed: ", getter.wait_line("symmetric"))
        self.assertIsNone(getter.find("holepunched"))
        self.assertIsNone(getter.find("complete"))

    def test_libtorrent_is_the_relay(self):
        self.internet(KEEPS_PORTS, KEEPS_PORTS)
        relay = self.start(Libtorrent.downloader(self.meta, self.scratch / "relay", [], *LIBTORRENT_RELAY, host=self.relay))
        self.seed(relay, "--no-pex")
        self.assert_punched(self.get(relay), relay)

    def test_libtorrent_is_the_source(self):
        self.internet(KEEPS_PORTS, KEEPS_PORTS)
        relay = self.swarm_relay()
        everywhere = Host("0.0.0.0", self.there.namespace)
        self.start(Libtorrent.source(self.meta, self.material, "--no-pex", *LIBTORRENT, relay.address, host=everywhere))
        self.assert_punched(self.get(relay), relay)

    def test_libtorrent_is_the_downloader(self):
        self.internet(KEEPS_PORTS, KEEPS_PORTS)
        relay = self.swarm_relay()
        seed = self.seed(relay, "--no-pex")
        everywhere = Host("0.0.0.0", self.here.namespace)
        getter = self.start(Libtorrent.downloader(self.meta, self.scratch / "copy", [relay.address], *LIBTORRENT, host=everywhere))
        seed.wait_event("holepunched", SECONDS)
        getter.wait_complete(SECONDS)
        self.assert_same(self.content, self.scratch / "copy/it")
