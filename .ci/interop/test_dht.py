"""A private DHT of ours and libtorrent's nodes, and nothing else by which peers could find each other. Downloads begin from a metainfo
file or from the info-hash alone."""

from clients import Aria2Process, Libtorrent, Swarm, TransmissionProcess
from harness import BIN, LOOPBACK, LOOPBACK6, Case, Host, Process, create, fill, seeded, swarm, until
from network import Network

SECONDS = 90


class LibtorrentNode:
    """A session of libtorrent whose DHT takes loopback addresses."""

    def __init__(self, host, bootstrap=""):
        lt = Libtorrent.needed()
        self.host = host
        self.session = lt.session(
            {
                "listen_interfaces": host.endpoint(0),
                "enable_dht": True,
                "dht_bootstrap_nodes": bootstrap,
                "dht_restrict_routing_ips": False,
                "dht_restrict_search_ips": False,
                "dht_enforce_node_id": False,
                "dht_announce_interval": 5,
                "enable_lsd": False,
                "enable_upnp": False,
                "enable_natpmp": False,
                "enable_outgoing_utp": False,
                "allow_multiple_connections_per_ip": True,
            }
        )
        until(self.session.listen_port, 10, "libtorrent listens")
        self.address = host.endpoint(self.session.listen_port())

    def add(self, source, folder):
        """A torrent by its metainfo file or by its info-hash."""
        lt = Libtorrent.needed()
        is_hash = isinstance(source, str)
        params = lt.parse_magnet_uri(f"magnet:?xt=urn:btih:{source}") if is_hash else lt.load_torrent_file(str(source))
        params.save_path = str(folder)
        params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
        return self.session.add_torrent(params)

    def stop(self):
        self.session.pause()


class Node(Process):
    """`swarm dht`."""

    def __init__(self, host, *args):
        super().__init__(host.command(BIN / "swarm", "dht", "--json", "--listen", host.endpoint(0), *args))
        self.address = self.wait_event("listening")["addresses"][0]


class Trackerless:
    host = LOOPBACK
    others = LOOPBACK, LOOPBACK

    def setUp(self):
        super().setUp()
        source = self.scratch / "source"
        source.mkdir()
        self.content = source / "it"
        fill(self.content, 5_000_000, seeded(1))
        self.meta = create(self.content, self.scratch / "it.meta")
        self.wanted = self.meta

    def our_node(self):
        return self.start(Node(self.host))

    def their_node(self):
        return self.start(LibtorrentNode(self.others[0]))

    def we_seed(self, node):
        self.start(Swarm.source(self.meta, self.content.parent, "--dht-bootstrap", node.address, host=self.host))

    def they_seed(self, node):
        torrent = self.start(LibtorrentNode(self.others[1], node.address)).add(self.meta, self.content.parent)
        until(lambda: torrent.status().is_seeding, 30, "libtorrent has checked its data")

    def we_get(self, node):
        folder = self.scratch / "ours"
        get = self.start(Swarm.downloader(self.wanted, folder, (), "--dht-bootstrap", node.address, host=self.host))
        get.wait_complete(SECONDS)
        self.assert_same(self.content, folder / "it")

    def they_get(self, node):
        folder = self.scratch / "theirs"
        folder.mkdir()
        torrent = self.start(LibtorrentNode(self.others[1], node.address)).add(self.wanted, folder)
        until(lambda: torrent.status().is_seeding, SECONDS, "libtorrent has everything")
        self.assert_same(self.content, folder / "it")

    def test_swarm_to_libtorrent_by_our_node(self):
        node = self.our_node()
        self.we_seed(node)
        self.they_get(node)

    def test_libtorrent_to_swarm_by_our_node(self):
        node = self.our_node()
        self.they_seed(node)
        self.we_get(node)

    def test_swarm_to_libtorrent_by_libtorrents_node(self):
        node = self.their_node()
        self.we_seed(node)
        self.they_get(node)

    def test_libtorrent_to_swarm_by_libtorrents_node(self):
        node = self.their_node()
        self.they_seed(node)
        self.we_get(node)


    def ask(self, node, *question):
        """The events of one question to the DHT."""
        network = "--listen", self.host.endpoint(0), "--bootstrap", node.address
        return swarm("dht", *question, "--json", *network, seconds=30).events

    def test_libtorrent_counts_its_peers_and_tells_its_torrents(self):
        node = self.their_node()
        self.they_seed(node)
        torrent = info_hash(self.meta)

        def told(question, key, expected):
            return any(event.get(key) == expected for event in self.ask(node, *question))

        until(lambda: told(("scrape", torrent), "seeds", 1), 30, "libtorrent counts one seed")
        until(lambda: told(("sample", torrent), "hashes", [torrent]), 30, "libtorrent names its torrent")

    def test_libtorrent_keeps_a_pointer(self):
        node = self.their_node()
        key = "--key", self.scratch / "key"
        torrent = info_hash(self.meta)
        put = [event for event in self.ask(node, "put", "--torrent", torrent, *key) if event["event"] == "item"]
        got = [event for event in self.ask(node, "get", put[0]["link"]) if event["event"] == "item"]
        self.assertEqual([event["torrent"] for event in got], [torrent])


class ByInfoHash(Trackerless):
    """Whoever downloads knows nothing but the info-hash."""

    def setUp(self):
        super().setUp()
        self.wanted = info_hash(self.meta)

    def test_swarm_to_swarm_by_our_node(self):
        node = self.our_node()
        self.we_seed(node)
        self.we_get(node)

    def test_libtorrent_to_libtorrent_by_our_node(self):
        node = self.our_node()
        self.they_seed(node)
        self.they_get(node)


def info_hash(meta):
    return swarm("show", meta, "--json").events[0]["info_hash_v1"]


class OverIpv4(Trackerless, Case):
    others = Host("127.0.0.2"), Host("127.0.0.3")


class OverIpv6(Trackerless, Case):
    host = LOOPBACK6
    others = LOOPBACK6, LOOPBACK6


class ByInfoHashOverIpv4(ByInfoHash, Case):
    others = Host("127.0.0.2"), Host("127.0.0.3")


class ByInfoHashOverIpv6(ByInfoHash, Case):
    host = LOOPBACK6
    others = LOOPBACK6, LOOPBACK6


# Transmission 3.00 announces nothing before it knows more than eight nodes.
NODES = 12


class InNamespaces(Case):
    """aria2 and Transmission in our DHT, each as a seed and as a downloader of nothing but an info-hash. Their DHTs take no
    addresses on loopback, and aria2's is there for IPv4 only."""

    waits = 90

    def setUp(self):
        super().setUp()
        self.network = Network(3)
        self.addCleanup(self.network.remove)
        self.here, self.there, at = (self.network.host(number, 4) for number in (1, 2, 3))
        first = self.start(Node(at)).address
        more = [self.start(Node(at, "--bootstrap", first)).address for _ in range(NODES - 1)]
        self.nodes = [first, *more]
        source = self.scratch / "source"
        self.content = fill(source / "it", 2_000_000, seeded(1))
        self.meta = create(self.content, self.scratch / "it.meta")
        self.hash = info_hash(self.meta)

    def aria2(self, source, folder, *args):
        entry = [f"--dht-entry-point={self.nodes[0]}", f"--dht-file-path={folder}.dht"]
        dht = ["--enable-dht=true", f"--dht-listen-port={self.there.free_port()}", *entry]
        return self.start(Aria2Process(source, folder, *dht, *args, host=self.there))

    def transmission(self, source, folder):
        return self.start(TransmissionProcess(source, folder, self.there, dht_nodes=self.nodes))

    def we_get(self):
        copy = self.scratch / "ours"
        get = Swarm.downloader(self.hash, copy, (), "--dht-bootstrap", self.nodes[0], host=self.here)
        self.start(get).wait_complete(SECONDS)
        self.assert_same(self.content, copy / "it")

    def we_seed(self):
        args = "--dht-bootstrap", self.nodes[0]
        self.start(Swarm.source(self.meta, self.content.parent, *args, host=self.here))
        return f"magnet:?xt=urn:btih:{self.hash}", self.scratch / "theirs"

    def test_aria2_to_swarm(self):
        self.aria2(self.meta, self.content.parent, "--check-integrity=true", "--seed-ratio=0.0")
        self.we_get()

    def test_swarm_to_aria2(self):
        link, copy = self.we_seed()
        self.aria2(link, copy, "--seed-time=0").wait_complete(SECONDS)
        self.assert_same(self.content, copy / "it")

    def test_transmission_to_swarm(self):
        self.transmission(self.meta, self.content.parent)
        self.we_get()

    def test_swarm_to_transmission(self):
        link, copy = self.we_seed()
        self.transmission(link, copy).wait_complete(SECONDS)
        self.assert_same(self.content, copy / "it")
