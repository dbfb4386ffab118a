"""The daemon's qBittorrent WebAPI: the tests of PyPI's `qbittorrent-api` against it, what others ask in their order, and attacks.

The suite fetches torrents from the web. It runs in a network namespace in which the host that it asks is a server of ours, with an address of
documentation on that namespace's loopback, a name in its /etc/hosts, and a certificate of an authority made for this run. Nothing in the daemon
knows of it: it trusts the authority because `SSL_CERT_FILE`, which its TLS has from the system, says so in this process alone.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import requests
import requests_of_clients
from harness import BIN, IN_CI, MIB, SOON, Case, Process, create, fill, free_port, missing, program, seeded, until
from network import ip, remove
from requests_of_clients import Api

VERSION = "2026.10.1"
USER, PASSWORD = "admin", "adminadmin"
WEB, WEB_NAME = "198.51.100.7", "github.com"
# How many tests of the suite pass at least.
PASSED_MIN = 370
# How long the suite may take.
SUITE_SECONDS = 900

# What the suite does that is not wanted of this daemon: parts of the names of its tests, and why.
LEFT_OUT = {
    "test_search.py": "search is another program's business",
    "test_rss.py": "so are feeds",
    "test_api_surface.py": "tells how the library is made",
    "test_definitions.py": "tells how the library is made",
    "test_request.py": "tells how the library speaks HTTP, over TLS that it sets up in the program",
    "test_torrentcreator.py": "`swarm create` makes torrents",
    "test_ssl_parameters": "there are no torrents over TLS",
    "test_set_ssl_parameters": "there are no torrents over TLS",
    "test_zzz_last_tests.py": "ends the daemon",
    "test_app.py::test_preferences": "the DHT is turned on and off by the configuration alone",
    "test_app.py::test_cookies": "no cookies are sent to where metainfo files are fetched from",
    "test_app.py::test_send_test_email": "no mail is sent",
    "test_torrents.py::test_add_torrent_file_fail": "asks that root cannot read a file",
    "test_torrents.py::test_torrents_add_download_path": "incomplete torrents have no folder of their own",
    "set_download_path": "incomplete torrents have no folder of their own",
    "test_torrents.py::test_create_categories[None-name-/tmp/": "nor have those of a category",
    "test_torrents.py::test_create_categories[None-name 1-/tmp/": "nor have those of a category",
    "test_torrents.py::test_create_categories[True-name-/tmp/": "nor have those of a category",
    "test_torrents.py::test_create_categories[True-name 1-/tmp/": "nor have those of a category",
    "test_torrents.py::test_edit_category[None-": "nor have those of a category",
    "test_torrents.py::test_edit_category[True-": "nor have those of a category",
    "set_auto_management": "folders of torrents do not follow their categories",
    "test_torrents.py::test_add_options[NoSubfolder-": "a torrent is laid out as its maker has it",
    "test_torrents.py::test_add_options[None-False]": "a torrent is laid out as its maker has it",
    "test_add_trackers": "a tracker is a URL: 127.0.0.1 is none",
    "test_add_tracker": "a tracker is a URL",
    "test_edit_tracker": "a tracker is a URL",
    "test_remove_trackers": "a tracker is a URL",
    "test_torrent.py::test_trackers": "a tracker is a URL",
    "test_rename_folder": "a torrent of one file has no folders in it",
}


class Daemon:
    """A daemon with a user and a password, in a folder of its own."""

    def __init__(self, scratch, *more, port=None, command=lambda *args: list(args), env=None):
        self.dir = scratch / "downloads"
        self.dir.mkdir(exist_ok=True)
        self.state = scratch / "state"
        self.url = f"http://127.0.0.1:{port or free_port()}"
        set_password(self.state, PASSWORD)
        args = [BIN / "swarm", "daemon", "--json", "--state-dir", self.state, "--dir", self.dir, "--user", USER]
        net = ["--listen", "127.0.0.1:0", "--no-dht", "--http", self.url.removeprefix("http://")]
        self.process = Process(command(*args, *net, *more), env=env)
        self.process.wait_event("serving")

    def api(self):
        return Api(self.url)

    def stop(self):
        self.process.stop()


def set_password(state, password):
    args = [BIN / "swarm", "daemon", "--state-dir", state, "password"]
    done = subprocess.run(args, input=f"{password}\n", text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


SERVER = """
import http.server, ssl, sys
from functools import partial
root, address, certificate, key = sys.argv[1:]
class Handler(http.server.SimpleHTTPRequestHandler):
    def translate_path(self, path):
        return root + "/" + path.split("?")[0].rsplit("/", 1)[-1]
server = http.server.ThreadingHTTPServer((address, 443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("serving", flush=True)
server.serve_forever()
"""


class Suite(Case):
    """The tests in the sdist of `qbittorrent-api`."""

    waits = 80
    scratch_bytes = 256 * MIB

    def test_its_own_tests_pass(self):
        if os.geteuid() != 0:
            missing("network namespaces need root")
        tests = self.sdist()
        namespace = self.namespace()
        inside = self.inside(namespace)
        authority = self.web(tests / "tests/_resources", inside)
        trusting = {"SSL_CERT_FILE": str(authority), "REQUESTS_CA_BUNDLE": str(authority)}
        folders = ["--allow-dir", self.scratch, "--allow-dir", "/tmp"]
        self.start(Daemon(self.scratch, *folders, port=8080, command=inside, env=trusting))
        report = self.scratch / "report.xml"
        home = self.scratch / "home"
        home.mkdir()
        env = {"HOME": str(home), "CI": "", "TMPDIR": str(self.scratch), "QBITTORRENTAPI_USERNAME": USER, "QBITTORRENTAPI_PASSWORD": PASSWORD}
        wanted = [arg for part in self.left_out(tests) for arg in ("--deselect", part)]
        command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "--junitxml", report, *wanted, "tests"]
        suite = Process(inside(*command), env={**trusting, **env}, cwd=tests)
        self.start(suite)
        suite.wait(SUITE_SECONDS)
        self.judge(report, suite)

    def sdist(self):
        """The sdist's files, in a folder of the name that its tests expect."""
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:"]
        done = subprocess.run([*command, "--dest", self.scratch, f"qbittorrent-api=={VERSION}"], capture_output=True, text=True)
        found = list(self.scratch.glob("qbittorrent_api-*.tar.gz"))
        if done.returncode != 0 or not found:
            missing(f"the tests of qbittorrent-api cannot be had: {done.stderr.strip()[-200:]}")
        with tarfile.open(found[0]) as archive:
            archive.extractall(self.scratch, filter="data")
        return next(self.scratch.glob("qbittorrent_api-*/")).rename(self.scratch / "qbittorrent-api")

    def namespace(self):
        name = f"swarm-interop-{os.getpid()}-api"
        ip("netns", "add", name)
        self.addCleanup(remove, name)
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "address", "add", f"{WEB}/32", "dev", "lo")
        return name

    def inside(self, namespace):
        """What runs a program in the namespace, where the host of the web is ours. The mount is that program's alone."""
        hosts = self.scratch / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{WEB} {WEB_NAME}\n")
        mount = 'mount --bind "$0" /etc/hosts && exec "$@"'
        return lambda *args: ["ip", "netns", "exec", namespace, "sh", "-c", mount, hosts, *args]

    def web(self, folder, inside):
        """Serves the folder's files; returns the authority that vouches for it."""
        at = lambda name: self.scratch / name
        openssl = lambda *args: subprocess.run([program("openssl"), *map(str, args)], check=True, capture_output=True)
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", at("ca.key"), "-out", at("ca.pem"), "-subj", "/CN=Test authority")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", at("web.key"), "-out", at("web.csr"), "-subj", f"/CN={WEB_NAME}")
        at("web.ext").write_text(f"subjectAltName=DNS:{WEB_NAME}\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n")
        signed = ["-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-CAcreateserial", "-extfile", at("web.ext"), "-days", "2"]
        openssl("x509", "-req", "-in", at("web.csr"), "-out", at("web.pem"), *signed)
        server = Process(inside(sys.executable, "-c", SERVER, folder, WEB, at("web.pem"), at("web.key")))
        self.start(server)
        server.wait_line("serving")
        return at("ca.pem")

    def left_out(self, tests):
        """What pytest is told to leave out, for each part of a name in the list."""
        names = []
        for path in sorted((tests / "tests").glob("test_*.py")):
            found = re.findall(r"^def (test_\w+)", path.read_text(), re.M)
            names += [f"{path.name}::{name}" for name in found]
        # One with a bracket begins the name of one test of several with other values; the rest are parts of names.
        parts = {part: part.split("[")[0] for part in LEFT_OUT}
        unused = [part for part in parts.values() if not any(part in name for name in names)]
        self.assertEqual(unused, [], "is left out and is not there")
        whole = [part for part in LEFT_OUT if "[" not in part]
        some = [part for part in LEFT_OUT if "[" in part]
        return [f"tests/{name}" for name in [name for name in names if any(part in name for part in whole)] + some]

    def judge(self, report, suite):
        self.assertTrue(report.exists(), f"there is no report: {suite}")
        cases = ElementTree.parse(report).getroot().iter("testcase")
        outcomes = {"passed": [], "skipped": [], "failed": []}
        for case in cases:
            kinds = {child.tag for child in case}
            bad = kinds & {"failure", "error"}
            outcome = "failed" if bad else "skipped" if "skipped" in kinds else "passed"
            text = next((child.get("message", "") for child in case if child.tag in ("failure", "error", "skipped")), "")
            outcomes[outcome].append(f"{case.get('classname')}::{case.get('name')} {text[:160]}")
        counts = ", ".join(f"{len(names)} {outcome}" for outcome, names in outcomes.items())
        print(f"  qbittorrent-api {VERSION}: {counts}; left out: {', '.join(LEFT_OUT)}", flush=True)
        if outcomes["failed"]:
            self.fail("\n".join([counts, *outcomes["failed"]]))
        # All that it skips by itself is of other versions of the API.
        self.assertEqual([name for name in outcomes["skipped"] if "testing 2.11.4; needs" not in name], [])
        self.assertGreaterEqual(len(outcomes["passed"]), PASSED_MIN)


class Clients(Case):
    """What other programs ask, in their order, of a torrent whose data is there."""

    def setUp(self):
        super().setUp()
        self.daemon = self.start(Daemon(self.scratch))
        fill(self.daemon.dir / "show" / "episode.mkv", 300_000, seeded(1))
        fill(self.daemon.dir / "show" / "notes.txt", 1_000, seeded(2))
        path = create(self.daemon.dir / "show", self.scratch / "show.torrent")
        self.metainfo = path.read_bytes()
        shown = subprocess.run([BIN / "swarm", "show", "--json", path], capture_output=True, text=True, check=True)
        self.hash = json.loads(shown.stdout)["info_hash_v1"]

    def talk(self, client, **more):
        client(self.daemon.api(), USER, PASSWORD, self.metainfo, self.hash, self.daemon.dir, **more)

    def test_sonarr(self):
        self.talk(requests_of_clients.sonarr)

    def test_radarr(self):
        self.talk(requests_of_clients.sonarr, category="radarr")

    def test_autobrr(self):
        self.talk(requests_of_clients.autobrr)

    def test_cross_seed(self):
        self.talk(requests_of_clients.cross_seed)

    def test_cross_seed_6(self):
        self.talk(requests_of_clients.cross_seed_6)

    def test_flood(self):
        self.talk(requests_of_clients.flood)


class Attacks(Case):
    """Who must not get in, or too far."""

    def setUp(self):
        super().setUp()
        self.daemon = self.start(Daemon(self.scratch))
        self.api = self.daemon.api()
        self.api.login(USER, PASSWORD)

    def raw(self, method, path, **more):
        return self.api.session.request(method, f"{self.daemon.url}/api/v2/{path}", timeout=SOON, **more)

    def test_preferences_reach_no_programs_passwords_sockets_or_folders(self):
        marker = self.scratch / "marker"
        before = self.api.get("app/preferences")
        attack = {
            "autorun_enabled": True,
            "autorun_program": f"/bin/touch {marker}",
            "autorun_on_torrent_added_enabled": True,
            "autorun_on_torrent_added_program": f"/bin/touch {marker}",
            "web_ui_username": "evil",
            "web_ui_password": "evil-evil-evil",
            "web_ui_port": 1,
            "web_ui_address": "*",
            "web_ui_domain_list": "*",
            "web_ui_host_header_validation_enabled": False,
            "web_ui_csrf_protection_enabled": False,
            "bypass_local_auth": True,
            "save_path": "/etc",
            "export_dir": "/etc",
            "scan_dirs": {"/etc": 1},
        }
        self.api.post("app/setPreferences", json=json.dumps(attack))
        self.assertEqual(self.api.get("app/preferences"), before)
        self.assertEqual(self.api.post("auth/login", username="evil", password="evil-evil-evil"), "Fails.")
        self.daemon.api().get("app/version", status=403)
        self.assertEqual(self.raw("GET", "app/version", headers={"Host": "evil.example"}).status_code, 401)
        link = "magnet:?xt=urn:btih:" + "a" * 40
        self.assertEqual(self.api.post("torrents/add", urls=link, stopped="true"), "Ok.")
        self.assertFalse(marker.exists())

    def test_passwords_cannot_be_tried_for_long(self):
        thief = self.daemon.api()
        answers = [thief.session.post(f"{self.daemon.url}/api/v2/auth/login", data={"username": USER, "password": f"guess {nth}"}) for nth in range(15)]
        told = [(answer.status_code, answer.text[:6]) for answer in answers]
        self.assertEqual(told[:10], [(200, "Fails.")] * 10)
        self.assertTrue(all(status == 403 for status, _ in told[10:]), told)
        # Who is in stays in, and the token is no guess.
        self.api.get("app/version")
        token = (self.daemon.state / "daemon/token").read_text().strip()
        self.daemon.api().login("any", token)

    def test_pages_of_others_and_other_names_of_this_host(self):
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
            for method, path in (("POST", "torrents/stop"), ("GET", "torrents/info"), ("POST", "auth/login")):
                with self.subTest(headers=headers, path=path):
                    answer = self.raw(method, path, headers=headers, data={"hashes": "all", "username": USER, "password": PASSWORD})
                    self.assertEqual(answer.status_code, 401)
                    self.assertNotIn("set-cookie", answer.headers)
        cookie = self.daemon.api().session.post(f"{self.daemon.url}/api/v2/auth/login", data={"username": USER, "password": PASSWORD})
        for part in ("HttpOnly", "SameSite=Strict"):
            self.assertIn(part, cookie.headers["set-cookie"])
        # What changes something is no link that can be followed.
        self.assertEqual(self.raw("GET", "torrents/delete", params={"hashes": "all", "deleteFiles": "true"}).status_code, 405)

    def test_forms_have_a_bound(self):
        # Longer than any metainfo file: refused, whatever becomes of the connection.
        def parts():
            yield b'--X\r\ncontent-disposition: form-data; name="torrents"; filename="a"\r\n\r\n'
            for _ in range(300):
                yield bytes(MIB)

        headers = {"content-type": "multipart/form-data; boundary=X"}
        try:
            self.assertEqual(self.raw("POST", "torrents/add", data=parts(), headers=headers).status_code, 413)
        except requests.ConnectionError:
            pass
        # And who is not in sends next to nothing.
        stranger = self.daemon.api()
        answer = stranger.session.post(f"{self.daemon.url}/api/v2/auth/login", data={"username": "x" * 100_000}, timeout=SOON)
        self.assertEqual(answer.status_code, 413)
        self.api.get("app/version")

    def test_folders_outside_are_refused(self):
        link = "magnet:?xt=urn:btih:" + "b" * 40
        (self.daemon.dir / "out").symlink_to("/etc")
        for path in ("/etc", "/etc/new", str(self.daemon.dir / ".." / "x"), str(self.daemon.dir / "out"), "../x"):
            with self.subTest(path=path):
                self.assertEqual(self.raw("POST", "torrents/add", data={"urls": link, "savepath": path}).status_code, 409)
                self.assertEqual(self.raw("POST", "torrents/createCategory", data={"category": "c", "savePath": path}).status_code, 409)
        self.assertEqual(self.api.post("torrents/add", urls=link, stopped="true"), "Ok.")
        for path in ("/etc", "/etc/new", str(self.daemon.dir / "out")):
            for name, field, hashes in (("setLocation", "location", "hashes"), ("setSavePath", "path", "id")):
                with self.subTest(path=path, name=name):
                    answer = self.raw("POST", f"torrents/{name}", data={hashes: "b" * 40, field: path})
                    self.assertIn(answer.status_code, (403, 409))
        for path, status in (("/etc", 404), ("/root", 404), (str(self.daemon.dir / "out"), 404), (str(self.daemon.dir), 200)):
            self.assertEqual(self.raw("GET", "app/getDirectoryContent", params={"dirPath": path}).status_code, status, path)
        self.assertEqual(self.api.torrent("b" * 40)["save_path"], str(self.daemon.dir))


class Open(Case):
    """Without authentication any login succeeds, and still no page of another site gets in."""

    def test_any_login_succeeds(self):
        daemon = self.start(Daemon(self.scratch, "--no-auth"))
        daemon.api().get("app/version")
        api = daemon.api()
        api.login("anybody", "anything")
        api.get("torrents/info")
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            answer = requests.get(f"{daemon.url}/api/v2/torrents/info", headers=headers, timeout=SOON)
            self.assertEqual(answer.status_code, 401)
