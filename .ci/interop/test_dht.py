"""A private DHT of ours and libtorrent's nodes, and nothing else by which peers could find each other."""

from clients import Libtorrent, Swarm
from harness import BIN, LOOPBACK, LOOPBACK6, Case, Host, Process, create, fill, seeded, until

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

    def add(self, meta, folder):
        lt = Libtorrent.needed()
        params = lt.load_torrent_file(str(meta))
        params.save_path = str(folder)
        params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
        return self.session.add_torrent(params)

    def stop(self):
        self.session.pause()


class Node(Process):
    """`swarm dht`."""

    def __init__(self, host):
        super().__init__(host.command(BIN / "swarm", "dht", "--json", "--listen", host.endpoint(0)))
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
        get = self.start(Swarm.downloader(self.meta, folder, (), "--dht-bootstrap", node.address, host=self.host))
        get.wait_complete(SECONDS)
        self.assert_same(self.content, folder / "it")

    def they_get(self, node):
        folder = self.scratch / "theirs"
        folder.mkdir()
        torrent = self.start(LibtorrentNode(self.others[1], node.address)).add(self.meta, folder)
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


class OverIpv4(Trackerless, Case):
    others = Host("127.0.0.2"), Host("127.0.0.3")


class OverIpv6(Trackerless, Case):
    host = LOOPBACK6
    others = LOOPBACK6, LOOPBACK6
