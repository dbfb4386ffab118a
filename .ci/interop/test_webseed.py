"""Web seeds (BEP 19): downloads from real web servers and from bad ones, and what other clients make of our torrents with web seeds."""

import json
import os
import time
from unittest import mock

from clients import Aria2, Libtorrent, Swarm
from harness import MIB, SOON, Case, Host, create, fill, seeded, small_files, swarm
from network import Network, ip
from web import S3, Bad, Caddy, Lighttpd, Nginx, NginxTls

NO_PEERS = ("--no-dht", "--no-lsd")


class WebSeed(Case):
    scratch_bytes = 512 * MIB

    def setUp(self):
        super().setUp()
        self.www, self.out = self.scratch / "www", self.scratch / "out"

    def large(self, length=20 * MIB):
        return fill(self.www / "a large file+.bin", length, seeded(length))

    def tree(self, count=300):
        root = small_files(self.www / "many small & odd", count, seeded(count))
        fill(root / "50% é#?[1]+.bin", 3 * MIB, seeded(1))
        return root

    def get(self, content, url, *args, more=()):
        meta = self.scratch / f"{content.name}.meta"
        if not meta.exists():
            create(content, meta, "-l", "64KiB")
        urls = [arg for each in [url, *args] for arg in ("--web-seed", each)]
        process = self.start(Swarm.downloader(meta, self.out, (), *NO_PEERS, *urls, *more))
        return process

    def whole(self, content, url, *args, **options):
        process = self.get(content, url, *args, **options).expect(0, 120)
        self.assert_same(content, self.out / content.name)
        return process


class RealServers(WebSeed):
    waits = 16

    def both(self, kind):
        large, tree = self.large(), self.tree()
        server = self.start(kind(self.www))
        for content in (large, tree):
            process = self.whole(content, server.url)
            self.assertIsNone(process.find("web_seed_fault"), str(process))

    def test_nginx(self):
        self.both(Nginx)

    def test_lighttpd(self):
        self.both(Lighttpd)

    def test_caddy(self):
        self.both(Caddy)

    def test_http2_where_the_server_offers_it(self):
        large = self.large()
        server = self.start(NginxTls(self.www))
        with mock.patch.dict(os.environ, SSL_CERT_FILE=str(server.certificate)):
            process = self.whole(large, server.url, more=["-v"])
        self.assertIn("HTTP/2.0", process.wait_line("a web seed answers"))

    def test_s3_public_objects(self):
        self.both(S3)

    def test_s3_a_presigned_url(self):
        large = self.large()
        server = self.start(S3(self.www))
        self.whole(large, server.presigned(large.name))


class BadServers(WebSeed):
    """Each costs that file or that URL a pause or its place, and shows by name; a good server beside it serves the rest."""

    waits = 50

    def bad(self, answer, reason, penalty, content=None):
        content = content or self.large(4 * MIB)
        bad, good = self.start(Bad(self.www, answer)), self.start(Bad(self.www, lambda h, *asked: h.good(*asked)))
        process = self.get(content, bad.url)
        fault = process.wait_event("web_seed_fault")
        self.assertIn(reason, fault["reason"])
        self.assertEqual(fault["penalty"], penalty)
        process.stop()
        self.whole(content, good.url, bad.url)
        return bad

    def test_a_whole_file_instead_of_a_range(self):
        self.bad(lambda h, body, *_: h.reply(200, body) if _[0] else h.good(body, *_), "whole file", "in_order")

    def test_no_ranges_at_all(self):
        for content in (self.large(), self.tree(30)):
            plain = self.start(Bad(self.www, lambda h, body, *_: h.reply(200, body)))
            self.whole(content, plain.url)
            files = 1 if content.is_file() else sum(path.is_file() for path in content.rglob("*"))
            self.assertLessEqual(len(plain.asked), 2 * files)

    def test_another_range(self):
        def other(h, body, first, last):
            h.reply(206, body[: last - first + 1], Content_Range=f"bytes 0-{last - first}/{len(body)}") if first else h.good(body, first, last)

        self.bad(other, "another part", "file_dropped")

    def test_too_much(self):
        def much(h, body, first, last):
            last = min(last + 1, len(body) - 1)
            h.reply(206, body[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(body)}")

        self.bad(much, "another part", "file_dropped")

    def test_too_little(self):
        def little(h, body, first, last):
            part = body[first : last + 1]
            h.close_connection = True
            h.reply(206, part[: len(part) // 2], length=len(part), Content_Range=f"bytes {first}-{first + len(part) - 1}/{len(body)}")

        self.bad(little, "ended early", "paused")

    def test_one_missing_file_of_many(self):
        tree = self.tree(30)
        lost = "odd/00/0/file%207.dat"
        self.bad(lambda h, body, *asked: h.good(None if lost in h.path else body, *asked), "404", "file_paused", tree)

    def test_busy_with_retry_after(self):
        busy = self.bad(lambda h, *_: h.reply(503, b"later", Retry_After=600), "503", "paused")
        self.assertLessEqual(len(busy.asked), 4)

    def test_a_redirect_for_each_file(self):
        tree = self.tree(30)
        good = self.start(Bad(self.www, lambda h, *asked: h.good(*asked)))
        to = self.start(Bad(self.www, lambda h, *_: h.reply(302, Location=good.url + h.path.lstrip("/"))))
        self.whole(tree, to.url)

    def test_a_login_page(self):
        self.bad(lambda h, *_: h.reply(200, b"<html>sign in", Content_Type="text/html"), "13 bytes instead of", "file_dropped")

    def test_a_compressed_body(self):
        self.bad(lambda h, body, *_: h.reply(200, body, Content_Encoding="gzip"), "encoded as gzip", "file_dropped")

    def test_nothing(self):
        self.bad(lambda h, *_: time.sleep(SOON), "nothing came", "paused")

    def test_lies(self):
        def lie(h, body, first, last):
            h.good(bytes(len(body)), first, last)

        self.bad(lie, "not the torrent's", "dropped")

    def test_ftp_is_passed_over(self):
        large, good = self.large(MIB), self.start(Bad(self.www, lambda h, *asked: h.good(*asked)))
        meta = self.scratch / "ftp.meta"
        create(large, meta)
        meta.write_bytes(meta.read_bytes().removesuffix(b"e") + b"8:url-list11:ftp://h/a/be")
        process = self.start(Swarm.downloader(meta, self.out, (), *NO_PEERS, "--web-seed", good.url)).expect(0, SOON)
        self.assertIn("ftp:", process.find("web_seed_fault")["reason"])

    def test_a_kill_and_a_new_start(self):
        large = self.large()
        slow = self.start(Bad(self.www, lambda h, *asked: (time.sleep(0.05), h.good(*asked))))
        process = self.get(large, slow.url)
        process.wait_event("progress")
        process.kill()
        self.whole(large, slow.url)


class OtherClients(WebSeed):
    """They read torrents that we made with web seeds, and download from them alone."""

    def created(self, server):
        tree = self.tree(50)
        meta = self.scratch / "it.torrent"
        return tree, create(tree, meta, "-l", "64KiB", "-w", server.url)

    def test_libtorrent(self):
        tree, meta = self.created(self.start(Nginx(self.www)))
        self.start(Libtorrent.downloader(meta, self.out)).wait_complete(120)
        self.assert_same(tree, self.out / tree.name)

    def test_aria2(self):
        large = self.large()
        meta = self.scratch / "it.torrent"
        create(large, meta, "-w", self.start(Nginx(self.www)).url)
        self.start(Aria2.downloader(meta, self.out)).wait_complete(120)
        self.assert_same(large, self.out / large.name)

    def test_a_link_names_web_seeds(self):
        large, server = self.large(4 * MIB), self.start(Nginx(self.www))
        meta = self.scratch / "it.meta"
        create(large, meta, "-w", server.url)
        link = swarm("show", meta, "--json").events[0]["magnet"]
        self.assertIn("ws=http%3A%2F%2F127.0.0.1", link)


class Devices(WebSeed):
    """Two hosts with two lines between them, one of which packets would take by themselves."""

    def received(self, host, device):
        return json.loads(ip("-n", host.namespace, "-s", "-json", "link", "show", "dev", device))[0]["stats64"]["rx"]["bytes"]

    def test_a_chosen_device_is_the_only_way_to_a_web_seed(self):
        network = Network(2)
        self.addCleanup(network.remove)
        source, downloader = network.host(1, 4), Host("0.0.0.0", network.host(2, 4).namespace)
        ip("link", "add", "aside", "netns", source.namespace, "type", "veth", "peer", "name", "aside", "netns", downloader.namespace)
        for host, address in ((source, "10.0.1.1"), (downloader, "10.0.1.2")):
            ip("-n", host.namespace, "address", "add", f"{address}/24", "dev", "aside")
            ip("-n", host.namespace, "link", "set", "aside", "up")
        # Worse than the one over the first line.
        ip("-n", downloader.namespace, "route", "add", "10.0.0.0/24", "dev", "aside", "metric", 500)
        large, server = self.large(4 * MIB), self.start(Nginx(self.www, source))
        meta = self.scratch / "it.meta"
        create(large, meta)
        for device, other in (("aside", "uplink"), ("uplink", "aside")):
            before, other_before = self.received(downloader, device), self.received(downloader, other)
            out = self.out / device
            args = (*NO_PEERS, "--web-seed", server.url, "--bind-device", device)
            self.start(Swarm.downloader(meta, out, (), *args, host=downloader)).expect(0, SOON)
            self.assert_same(large, out / large.name)
            self.assertGreater(self.received(downloader, device) - before, 4 * MIB)
            self.assertLess(self.received(downloader, other) - other_before, 10_000)


class Links(WebSeed):
    """On hosts of their own: a link is a stranger's word, which leads to no server on our own machine."""

    def test_a_link_with_a_web_seed_and_a_peer_that_has_little_but_the_metadata(self):
        network = Network(2)
        self.addCleanup(network.remove)
        source, downloader = network.host(1, 4), network.host(2, 4)
        large, meta, little = self.large(4 * MIB), self.scratch / "it.meta", self.scratch / "little"
        little.mkdir()
        bytes_of_it = large.read_bytes()
        (little / large.name).write_bytes(bytes_of_it[:MIB] + bytes(len(bytes_of_it) - MIB))
        server = self.start(Nginx(self.www, source))
        create(large, meta, "-w", server.url)
        peer = self.start(Swarm.source(meta, little, "--partial", host=source))
        link = swarm("show", meta, "--json").events[0]["magnet"]
        process = self.start(Swarm.downloader(link, self.out, [peer.address], *NO_PEERS, host=downloader)).expect(0, 120)
        self.assert_same(large, self.out / large.name)
        self.assertEqual(process.find("complete")["web_seeds"][0]["url"], server.url)
