"""Encrypted connections (MSE) with libtorrent, aria2 and Transmission, each as source for us and as downloader from us. They are made to take
nothing else, and say so themselves: libtorrent and Transmission by the flags of the connection, ours by its log."""

import shutil

from clients import Aria2, Libtorrent, Swarm, Tracker, Transmission
from harness import MIB, Case, create, fill, new_scratch, seeded, until
from network import Network

SECONDS = 60
TRACKER_PORT = 6969
# Slow enough that a connection can be looked at.
SLOW = "--max-up", "4MB/s", "--max-down", "4MB/s", "-v"
LENGTH = 6 * MIB + 5


def forced(level):
    """libtorrent: encrypted handshakes only, and after them RC4 only (2) or plaintext only (1)."""
    settings = {"in_enc_policy": 0, "out_enc_policy": 0, "allowed_enc_level": level, "prefer_rc4": "true"}
    return [arg for name, value in settings.items() for arg in ("--set", f"{name}={value}")]


DISABLED = ["--set", "in_enc_policy=2", "--set", "out_enc_policy=2"]


class Encryption(Case):
    scratch_bytes = 256 * MIB
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.network = Network(3)
        cls.addClassCleanup(cls.network.remove)
        cls.material = new_scratch(64 * MIB)
        cls.addClassCleanup(shutil.rmtree, cls.material, ignore_errors=True)
        url = f"http://{cls.network.host(3, 4).endpoint(TRACKER_PORT)}/announce"
        cls.content = fill(cls.material / "it.bin", LENGTH, seeded(1))
        cls.meta = create(cls.content, cls.material / "it.meta", "-a", url)

    def setUp(self):
        super().setUp()
        self.start(Tracker(host=self.network.host(3, 4), port=TRACKER_PORT))

    def transfer(self, source, downloader, looks):
        """From one to the other, each started by its function, while `looks` looks at both."""
        source = self.start(source(self.network.host(1, 4)))
        copies = self.scratch / "copies"
        downloader = self.start(downloader(copies, self.network.host(2, 4)))
        looks(source, downloader)
        downloader.wait_complete(SECONDS)
        self.assert_same(self.content, copies / "it.bin")

    def we_seed(self, encryption):
        return lambda host: Swarm.source(self.meta, self.material, "--encryption", encryption, *SLOW, host=host)

    def we_get(self, encryption):
        args = "--encryption", encryption, *SLOW
        return lambda folder, host: Swarm.downloader(self.meta, folder, (), *args, host=host)

    def they_seed(self, client, *args, **settings):
        return lambda host: client.source(self.meta, self.material, *args, host=host, **settings)

    def they_get(self, client, *args, **settings):
        return lambda folder, host: client.downloader(self.meta, folder, (), *args, host=host, **settings)

    def test_libtorrent_with_rc4_to_swarm(self):
        for encryption in ("allow", "prefer", "require"):
            with self.subTest(encryption):
                self.of_kind("rc4", self.they_seed(Libtorrent, *forced(2)), self.we_get(encryption))

    def test_swarm_to_libtorrent_with_rc4(self):
        for encryption in ("allow", "prefer", "require"):
            with self.subTest(encryption):
                self.of_kind("rc4", self.we_seed(encryption), self.they_get(Libtorrent, *forced(2)))

    def test_libtorrent_with_plaintext_after_the_handshake(self):
        for encryption in ("allow", "prefer"):
            with self.subTest(encryption):
                self.of_kind("plaintext", self.they_seed(Libtorrent, *forced(1)), self.we_get(encryption))
                self.of_kind("plaintext", self.we_seed(encryption), self.they_get(Libtorrent, *forced(1)))

    def test_libtorrent_without_encryption(self):
        for encryption in ("off", "allow", "prefer"):
            with self.subTest(encryption):
                self.of_kind("none", self.they_seed(Libtorrent, *DISABLED), self.we_get(encryption))
                self.of_kind("none", self.we_seed(encryption), self.they_get(Libtorrent, *DISABLED))

    def test_libtorrent_as_it_comes_to_require(self):
        # The other way it dials plainly whom a tracker names, and comes again after a minute.
        self.of_kind("rc4", self.they_seed(Libtorrent), self.we_get("require"))

    def of_kind(self, kind, source, downloader):
        """libtorrent, at one end, says of what kind the connection is."""

        def looks(*ends):
            theirs = next(end for end in ends if "libtorrent_peer" in str(end))
            theirs.wait_event("connection", SECONDS, encryption=kind)
            self.assertEqual([event["encryption"] for event in theirs.events if event["event"] == "connection"], [kind])

        self.transfer(source, downloader, looks)
        self.end()

    def test_aria2_that_requires_it(self):
        required = "--bt-force-encryption=true", "--bt-min-crypto-level=arc4"
        for encryption in ("allow", "require"):
            with self.subTest(encryption):
                self.logged("encrypted (RC4)", 1, self.they_seed(Aria2, *required), self.we_get(encryption))
                self.logged("encrypted (RC4)", 0, self.we_seed(encryption), self.they_get(Aria2, *required))

    def test_aria2_that_requires_the_handshake(self):
        required = "--bt-require-crypto=true", "--bt-min-crypto-level=plain"
        self.logged("encrypted handshake", 1, self.they_seed(Aria2, *required), self.we_get("allow"))
        self.logged("encrypted handshake", 0, self.we_seed("allow"), self.they_get(Aria2, *required))

    def logged(self, manner, ours, source, downloader):
        """We say how the connection was made."""
        self.transfer(source, downloader, lambda *ends: ends[ours].wait_line(manner, SECONDS))
        self.end()

    def test_transmission_that_requires_it(self):
        for encryption in ("allow", "require"):
            with self.subTest(encryption):
                self.flagged(1, self.they_seed(Transmission, encryption=2), self.we_get(encryption))
                self.flagged(0, self.we_seed(encryption), self.they_get(Transmission, encryption=2))

    def flagged(self, ours, source, downloader):
        """Transmission flags the connection with an E."""

        def looks(*ends):
            theirs, host = ends[1 - ours], self.network.host(ours + 1, 4)
            rows = lambda: [row.split() for row in theirs.ask("--torrent", "all", "--info-peers").splitlines()]
            is_encrypted = lambda row: len(row) > 1 and row[0] == host.ip and "E" in row[1]
            until(lambda: any(map(is_encrypted, rows())), SECONDS, "Transmission says that it is encrypted")

        self.transfer(source, downloader, looks)
        self.end()

    def end(self):
        """Ends both, so that others may meet by the same tracker."""
        self.doCleanups()
        self.setUp()
