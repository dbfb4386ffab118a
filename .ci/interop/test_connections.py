"""Each client with encryption off and required, over TCP and over uTP as far as it has it, as source for us and as downloader
from us. We take nothing else, nor do they where they can be told so; both sides say how the connection was made."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor

from clients import Aria2, Libtorrent, Swarm, Tracker, Transmission
from harness import LOOPBACK, MIB, Case, create, fill, new_scratch, seeded, until
from more_clients import LibutpRelay, QBittorrent, Rqbit, RTorrent
from network import Network

SECONDS = 90
TRACKER_PORT = 6969
LENGTH = 16 * MIB + 5
# Slow enough that a connection can be looked at.
LIMITS = "--max-up", "8MB/s", "--max-down", "8MB/s"
AT_A_TIME = 8

# What the other client takes and gives, what we are told (`--encryption`), and how a connection is made between the two.
OFF = [("off", "off")]
DEFAULT_OFF = [("off", "allow"), ("off", "prefer")]
REQUIRE = [("require", "require")]
DEFAULT_REQUIRE = [("require", "allow"), ("require", "prefer")]
HANDSHAKE = [("handshake", "allow"), ("handshake", "prefer")]
MADE = {"off": "none", "require": "rc4", "handshake": "plaintext"}
# How we name it.
NAMES = {"none": "", "rc4": ", encrypted (RC4)", "plaintext": ", encrypted handshake"}
TCP, UTP = ["tcp"], ["utp"]


def ours(transport, encryption):
    return ["--no-utp" if transport == "tcp" else "--no-tcp", "--encryption", encryption, "-v", *LIMITS]


def made_by_us(process):
    """How we say that our connections were made."""
    colours = r"\x1b\[[0-9;]*m"
    said = re.findall(r"connected .*over=\"([^\"]*)\"", re.sub(colours, "", "\n".join(process.output)))
    known = {f"{named}{name}": (transport, kind) for transport, named in (("tcp", "TCP"), ("utp", "uTP")) for kind, name in NAMES.items()}
    return {known[each] for each in said}


class LibtorrentForced:
    @staticmethod
    def settings(transport, encryption):
        is_utp, policy = transport == "utp", 2 if encryption == "off" else 0
        settings = {f"enable_{way}_{which}": (which == "utp") == is_utp for way in ("incoming", "outgoing") for which in ("utp", "tcp")}
        settings |= {"in_enc_policy": policy, "out_enc_policy": policy, "allowed_enc_level": 1 if encryption == "handshake" else 2}
        return [arg for name, value in settings.items() for arg in ("--set", f"{name}={str(value).lower()}")]

    @classmethod
    def source(cls, meta, folder, transport, encryption):
        return Libtorrent.source(meta, folder, *cls.settings(transport, encryption))

    @classmethod
    def downloader(cls, meta, folder, peers, transport, encryption):
        return Libtorrent.downloader(meta, folder, peers, *cls.settings(transport, encryption))

    @staticmethod
    def connections(process):
        return {(event["transport"], event["encryption"]) for event in process.events if event["event"] == "connection"}


class Aria2Forced:
    SETTINGS = {
        "off": (),
        "require": ("--bt-force-encryption=true", "--bt-min-crypto-level=arc4"),
        "handshake": ("--bt-require-crypto=true", "--bt-min-crypto-level=plain"),
    }

    @classmethod
    def source(cls, meta, folder, transport, encryption):
        return Aria2.source(meta, folder, *cls.SETTINGS[encryption])

    @classmethod
    def downloader(cls, meta, folder, peers, transport, encryption):
        return Aria2.downloader(meta, folder, (), *cls.SETTINGS[encryption])


class TransmissionEncrypted:
    @staticmethod
    def settings(transport, encryption):
        return {"utp-enabled": transport == "utp", "encryption": 2 if encryption == "require" else 0}

    @classmethod
    def source(cls, meta, folder, *way, host):
        return Transmission.source(meta, folder, host, **cls.settings(*way))

    @classmethod
    def downloader(cls, meta, folder, peers, *way, host):
        return Transmission.downloader(meta, folder, (), host, **cls.settings(*way))

    @staticmethod
    def connections(process):
        """Its list of peers has a T for uTP and an E for encryption."""
        rows = [line.split() for line in process.ask("--torrent", "all", "--info-peers").splitlines()]
        flags = [row[1] for row in rows if len(row) > 2 and row[0].startswith("10.")]
        return {("utp" if "T" in each else "tcp", "rc4" if "E" in each else "none") for each in flags}


class Transfer(Case):
    """A downloader of theirs finds us by a tracker; ours is told of them."""

    scratch_bytes = 512 * MIB
    maxDiff = None
    tracker_port = 0

    @classmethod
    def setUpClass(cls):
        cls.material = new_scratch(64 * MIB)
        cls.addClassCleanup(shutil.rmtree, cls.material, ignore_errors=True)
        cls.content = fill(cls.material / "it.bin", LENGTH, seeded(1))
        cls.we_at, cls.they_at, tracker_at = cls.hosts()
        cls.tracker = Tracker(host=tracker_at, port=cls.tracker_port)
        cls.addClassCleanup(cls.tracker.stop)

    def torrent(self, *name):
        """One of the same content and another info-hash, so that nobody meets who should not. Nor do they share a file:
        rqbit touches its own, and what is touched is verified again."""
        content = self.scratch / " ".join(name)
        shutil.copyfile(self.content, content)
        return content, create(content, content.with_suffix(".meta"), "-a", self.tracker.url)

    def transfer(self, client, we_seed, transport, theirs, encryption, more=""):
        """What went wrong, or None."""
        way = f"{'to' if we_seed else 'from'} {client.__name__} {transport} {theirs}, ours {encryption}{more}"
        try:
            content, meta = self.torrent(way)
            copies = self.scratch / f"{content.name} copy"
            we, they = self.ends(client, we_seed, meta, copies, (transport, theirs), ours(transport, encryption))
        except AssertionError as error:
            return f"{way}: {error}"
        try:
            made = {(transport, MADE[theirs])}
            until(lambda: made_by_us(we), SECONDS, "we are connected")
            if hasattr(client, "connections"):
                self.assertEqual(until(lambda: client.connections(they), SECONDS, "they are connected"), made)
            (they if we_seed else we).wait_complete(SECONDS)
            self.assertEqual(made_by_us(we), made)
            self.assert_same(content, copies / content.name)
            they.stop()
            self.check_counters(they, we_seed, transport)
            we.stop()
            content.unlink()
            shutil.rmtree(copies)
        except AssertionError as error:
            return f"{way}: {error}\nwe: {we}\nthey: {they}"

    def tried(self, client, *way):
        """What went wrong, also in a second try where an encrypted handshake with the client fails now and then by its own fault."""
        failure = self.transfer(client, *way)
        if failure and getattr(client, "miscounts_secrets", False) and way[2] != "off":
            print(f"  note    {client.__name__} is tried again: {failure}", flush=True)
            failure = self.transfer(client, *way, more=" again")
        return failure

    def ends(self, client, we_seed, meta, copies, way, args):
        at = {} if self.they_at is LOOPBACK else {"host": self.they_at}
        if we_seed:
            we = self.start(Swarm.source(meta, meta.parent, *args, host=self.we_at))
            return we, self.start(client.downloader(meta, copies, [we.address], *way, **at))
        they = self.start(client.source(meta, meta.parent, *way, **at))
        return self.start(Swarm.downloader(meta, copies, [they.address], *args, host=self.we_at)), they

    def check_counters(self, they, we_seed, transport):
        """libtorrent's, which it tells at its end."""
        if counters := they.find("counters"):
            way = "in" if we_seed else "out"
            packets = counters[f"utp.utp_payload_pkts_{way}"]
            self.assertEqual(packets > LENGTH // 65_536, transport == "utp", str(counters))
            self.assertGreaterEqual(counters[f"net.{'recv' if we_seed else 'sent'}_payload_bytes"], LENGTH)

    def each(self, client, transports, pairs):
        """Both ways, at once, since most of the time is waiting for the client's clocks."""
        ways = [(client, we_seed, transport, *pair) for we_seed in (False, True) for transport in transports for pair in pairs]
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            failures = pool.map(lambda way: self.tried(*way), ways)
            self.assertEqual("\n".join(filter(None, failures)), "")


class OnLoopback(Transfer):
    waits = 50

    @staticmethod
    def hosts():
        return LOOPBACK, LOOPBACK, LOOPBACK

    def test_libtorrent(self):
        Libtorrent.needed()
        self.each(LibtorrentForced, TCP + UTP, OFF + REQUIRE + DEFAULT_OFF + DEFAULT_REQUIRE + HANDSHAKE)

    def test_libtorrent_as_it_comes(self):
        # The other way it dials plainly whom a tracker names, and comes again after a minute.
        content, meta = self.torrent("as it comes")
        they = self.start(Libtorrent.source(meta, meta.parent))
        copies = self.scratch / "copies"
        we = self.start(Swarm.downloader(meta, copies, [they.address], "--encryption", "require", "-v"))
        we.wait_complete(SECONDS)
        self.assertEqual(made_by_us(we), {("tcp", "rc4")})
        self.assert_same(content, copies / content.name)

    def test_qbittorrent(self):
        self.each(QBittorrent, TCP + UTP, OFF + REQUIRE + DEFAULT_REQUIRE)

    def test_rtorrent(self):
        self.each(RTorrent, TCP, OFF + REQUIRE + DEFAULT_REQUIRE + HANDSHAKE[:1])

    def test_aria2(self):
        self.each(Aria2Forced, TCP, OFF + REQUIRE + DEFAULT_REQUIRE + HANDSHAKE[:1])

    def test_rqbit(self):
        self.each(Rqbit, TCP + UTP, OFF)

    def test_libutp_to_swarm(self):
        """We dial libutp, behind which is a source over TCP."""
        for encryption in ("off", "require"):
            with self.subTest(encryption):
                content, meta = self.torrent("from libutp", encryption)
                source = self.start(Swarm.source(meta, self.scratch, *ours("tcp", encryption)))
                relay = self.start(LibutpRelay("from-utp", source.address))
                self.by_libutp(content, meta, source, relay, "utp", encryption)

    def test_swarm_to_libutp(self):
        """libutp dials us, for a downloader over TCP."""
        for encryption in ("off", "require"):
            with self.subTest(encryption):
                content, meta = self.torrent("to libutp", encryption)
                source = self.start(Swarm.source(meta, self.scratch, *ours("utp", encryption)))
                relay = self.start(LibutpRelay("to-utp", source.address))
                self.by_libutp(content, meta, source, relay, "tcp", encryption)

    def by_libutp(self, content, meta, source, relay, transport, encryption):
        copies = self.scratch / f"{content.name} copy"
        downloader = self.start(Swarm.downloader(meta, copies, [relay.address], "--no-tracker", *ours(transport, encryption)))
        downloader.wait_complete(SECONDS)
        self.assert_same(content, copies / content.name)
        kind, other = "rc4" if encryption == "require" else "none", "tcp" if transport == "utp" else "utp"
        self.assertEqual(made_by_us(downloader), {(transport, kind)})
        self.assertEqual(made_by_us(source), {(other, kind)})


class InNamespaces(Transfer):
    """Transmission takes no peers on loopback."""

    waits = 40
    tracker_port = TRACKER_PORT

    @classmethod
    def hosts(cls):
        network = Network(3)
        cls.addClassCleanup(network.remove)
        return [network.host(number, 4) for number in (1, 2, 3)]

    def test_transmission(self):
        self.each(TransmissionEncrypted, TCP + UTP, OFF + REQUIRE + DEFAULT_REQUIRE[:1])
