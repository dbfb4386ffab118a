"""The daemon's web page in headless Chromium: each action with its effect, ten thousand torrents, keys, a proxy before it."""

import contextlib
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from browser import Browser
from harness import BIN, MIB, SOON, Case, Process, create, fill, free_port, program, seeded, until

MANY = 10_000
# What the page says at most about 10,000 torrents at a time.
ROWS_MAX = 240


class Daemon(Process):
    def __init__(self, scratch, *more):
        self.state = scratch / "state"
        options = ["--listen", "127.0.0.1:0", "--no-dht", "--http", "127.0.0.1:0", "--dir", scratch / "downloads", "--allow-dir", scratch]
        super().__init__([BIN / "swarm", "daemon", "--json", *options, "--state-dir", self.state, *more])
        self.http = self.wait_event("serving")["http"][0]
        self.url = f"http://{self.http}"
        token = self.state / "daemon/token"
        self.token = token.read_text().strip() if token.exists() else ""

    def api(self, method, path, body=None, content_type="application/json"):
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self.token}", "content-type": content_type}
        request = urllib.request.Request(f"{self.url}/api/v1{path}", data, headers, method=method)
        answer = urllib.request.urlopen(request, timeout=SOON).read()
        return json.loads(answer) if answer else None

    def torrents(self):
        return self.api("GET", "/torrents")["torrents"]

    def torrent(self, number=1):
        return self.api("GET", f"/torrents/{number}")

    def add(self, metainfo, **options):
        query = urllib.parse.urlencode(options)
        return self.api("POST", f"/torrents?{query}", metainfo.read_bytes(), "application/x-bittorrent")["id"]


class PageCase(Case):
    waits = 30
    scratch_bytes = 128 * MIB

    def setUp(self):
        super().setUp()
        self.rng = seeded(18)

    def daemon(self, *more):
        return self.start(Daemon(self.scratch, *more))

    def browser(self, *more, **options):
        return self.start(Browser(*more, **options))

    def metainfo(self, name, length=300_000):
        path = fill(self.scratch / "data" / name, length, self.rng)
        return create(path, self.scratch / f"{name}.meta", "-l", "16KiB")

    def sign_in(self, browser, daemon):
        browser.open(f"{daemon.url}/?token={daemon.token}")
        browser.find("#table")

    def becomes(self, daemon, number, **fields):
        is_it = lambda: all(daemon.torrent(number)[name] == value for name, value in fields.items())
        until(is_it, SOON, f"torrent {number} with {fields}; it is {daemon.torrent(number)}")


class Entering(PageCase):
    def test_by_the_link_the_token_and_not_otherwise(self):
        daemon, browser = self.daemon(), self.browser()
        browser.open(f"{daemon.url}/t/1?x=y")
        self.assertIn("Sign in", browser.driver.title)
        browser.type("#password", "wrong")
        browser.click("form .primary")
        browser.shows("[role=alert]", "not right")
        browser.type("#password", daemon.token)
        browser.click("form .primary")
        browser.shows("main", "no torrent 1")
        self.assertTrue(browser.driver.current_url.endswith("/t/1?x=y"), "on to where they wanted to go")
        [cookie] = browser.driver.get_cookies()
        self.assertTrue(cookie["httpOnly"] and cookie["sameSite"] == "Strict", cookie)
        browser.open(daemon.url)
        browser.click('[action$="/logout"] button')
        browser.find("#password")
        browser.open(daemon.url)
        self.assertIn("Sign in", browser.driver.title)
        self.sign_in(browser, daemon)
        self.assertNotIn("token", browser.driver.current_url)
        browser.check(self, daemon.url, but=["401", "404"])

    def test_forms_of_other_pages_do_nothing(self):
        daemon = self.daemon()
        number = daemon.add(self.metainfo("kept"), paused="true")
        host, port = daemon.http.rsplit(":", 1)
        for headers in [{"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {}]:
            connection = http.client.HTTPConnection(host, int(port), timeout=SOON)
            form = {"authorization": f"Bearer {daemon.token}", "content-type": "application/x-www-form-urlencoded"}
            with contextlib.closing(connection):
                connection.request("POST", "/remove", f"ids={number}&data=delete", {**form, **headers})
                self.assertEqual(connection.getresponse().status, 403, headers)
        self.assertEqual(len(daemon.torrents()), 1)


class Actions(PageCase):
    def test_adding_by_form_paste_and_drop(self):
        daemon, browser = self.daemon(), self.browser()
        first, second = self.metainfo("first"), self.metainfo("second")
        self.sign_in(browser, daemon)
        browser.shows("#rows", "No torrents yet")

        browser.click("#open-add")
        browser.find("dialog[open] #add-files").send_keys(f"{first}\n{second}")
        browser.type("#add-tags", "new, two words")
        browser.click("dialog [name=paused]")
        browser.click("#add-go")
        browser.said("Added 2 torrents")
        browser.find("#t2")
        self.assertEqual([one["tags"] for one in daemon.torrents()], [["new", "two words"]] * 2)
        self.assertFalse(browser.all("dialog[open]"), "it closes")

        browser.click("#open-add")
        browser.type("#add-links", "magnet:?xt=urn:btih:" + "ab" * 20 + "\nnonsense")
        browser.click("#add-go")
        browser.said("nonsense")
        self.assertTrue(browser.all("dialog[open]"), "what is wrong can be mended")
        browser.keys("\ue00c")
        browser.find("#t3")

        link = "magnet:?xt=urn:btih:" + "cd" * 20 + "&dn=pasted"
        browser.script(
            """const data = new DataTransfer(); data.setData("text/plain", arguments[0]);
            document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true}))""",
            link,
        )
        until(lambda: browser.script("return document.querySelector('#add-links')?.value") == link, SOON, "the pasted link")
        browser.click("#add-go")
        browser.shows("#rows", "pasted")

        third = self.metainfo("third").read_bytes()
        browser.script(
            """const data = new DataTransfer(); data.items.add(new File([new Uint8Array(arguments[0])], "third.torrent"));
            dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}))""",
            list(third),
        )
        until(lambda: browser.script("return document.querySelector('#add-files')?.files.length") == 1, SOON, "the dropped file")
        browser.click("#add-go")
        browser.shows("#rows", "third")
        browser.check(self, daemon.url, but=["400"])

    def test_each_button_of_a_torrent(self):
        daemon, browser = self.daemon(), self.browser()
        number = daemon.add(self.metainfo("one"), paused="true")
        daemon.add(self.metainfo("two"), paused="true")
        self.sign_in(browser, daemon)
        browser.click(f"#a{number}")
        browser.click("#do-resume")
        self.becomes(daemon, number, paused=False)
        browser.said("Resumed")
        browser.click("#do-pause")
        self.becomes(daemon, number, paused=True)
        browser.click("#do-force")
        self.becomes(daemon, number, paused=False, forced=True)
        browser.click("#do-unforce")
        self.becomes(daemon, number, forced=False)
        browser.said("turn again")
        browser.click("#do-recheck")
        browser.said("checked again")
        browser.click("#do-reannounce")
        browser.said("Announced")
        browser.find("#graph svg")
        browser.shows("#map", "pieces are here")

        tab = f"{daemon.url}/t/{number}"
        browser.open(f"{tab}/trackers")
        browser.type("#trackers-new", "http://127.0.0.1:9/announce\nudp://127.0.0.1:9")
        browser.click("form[action$='/trackers'].lines .button")
        browser.said("Added")
        browser.shows("#trackers", "udp://127.0.0.1:9")
        browser.click("#trackers [value^='udp:']")
        browser.said("Removed")
        until(lambda: "udp:" not in browser.text("#trackers"), SOON, "one tracker less")
        browser.type("#seeds-new", "http://127.0.0.1:9/one")
        browser.click("form[action$='/web-seeds'].lines .button")
        browser.shows("#web-seeds", "http://127.0.0.1:9/one")

        browser.open(f"{tab}/peers")
        browser.type("#peers-new", "nobody")
        browser.click(".lines .button")
        browser.said("is no peer")
        browser.type("#peers-new", "127.0.0.1:9")
        browser.click(".lines .button")
        browser.said("tried")
        browser.check(self, daemon.url, but=["400"])

    def test_files_and_options(self):
        daemon, browser = self.daemon(), self.browser()
        for name in ("a.txt", "deep/b.txt"):
            fill(self.scratch / "tree" / name, 50_000, self.rng)
        number = daemon.add(create(self.scratch / "tree", self.scratch / "tree.meta", "-l", "16KiB"), paused="true")
        self.sign_in(browser, daemon)
        tab = f"{daemon.url}/t/{number}"
        browser.open(f"{tab}/files")
        browser.script("const one = document.querySelector('select'); one.value = '7'; one.dispatchEvent(new Event('change', {bubbles: true}))")
        browser.said("Saved")
        self.assertEqual(sorted(one["priority"] for one in daemon.api("GET", f"/torrents/{number}/files")), [4, 7])
        browser.click("[name=all][value='0']")
        until(lambda: {one["priority"] for one in daemon.api("GET", f"/torrents/{number}/files")} == {0}, SOON, "nothing wanted")

        browser.click("#n1")
        until(lambda: browser.script("return document.querySelector('#rename-to')?.value") == "tree/deep/b.txt", SOON, "the path")
        browser.type("#rename-to", "tree/deep/c.txt")
        browser.click("dialog .primary")
        browser.said("Renamed")
        self.assertIn("tree/deep/c.txt", [one["path"] for one in daemon.api("GET", f"/torrents/{number}/files")])

        browser.open(f"{tab}/options")
        browser.type("#o-dir", str(self.scratch / "elsewhere"))
        browser.click("[name=files][value=leave]")
        browser.click("form:has(#o-dir) .button")
        browser.said("another folder")
        self.becomes(daemon, number, dir=str((self.scratch / "elsewhere").resolve()))
        browser.type("#o-dir", "/etc")
        browser.click("form:has(#o-dir) .button")
        browser.said("may be used")
        browser.type("#o-name", "another name")
        browser.type("#o-tags", "x, y")
        browser.click("form:has(#o-name) .button")
        self.becomes(daemon, number, name="another name", tags=["x", "y"])
        browser.said("Saved")
        browser.type("#o-down", "1.5")
        browser.click("form:has(#o-down) .button")
        self.becomes(daemon, number, download_limit=1_572_864, upload_limit=None)
        browser.type("#o-up", "-3")
        browser.click("form:has(#o-up) .button")
        browser.said("up: -3")
        browser.script("document.querySelector('#o-ratio-kind').value = 'value'")
        browser.type("[name=ratio]", "2.5")
        browser.click("form:has([name=ratio]) .button")
        self.becomes(daemon, number, ratio_limit=2.5)
        browser.click("[name=sequential]")
        browser.click("form:has([name=sequential]) > .button")
        self.becomes(daemon, number, sequential=True)

        browser.open(f"{daemon.url}/settings")
        browser.type("#s-up", "2")
        browser.click("form:has(#s-up) .button")
        until(lambda: daemon.api("GET", "/session")["upload_limit"] == 2 * MIB, SOON, "the limit")
        browser.type("#s-downloads", "3")
        browser.click("form:has(#s-downloads) .button")
        until(lambda: daemon.api("GET", "/session")["settings"]["max_active_downloads"] == 3, SOON, "the queue")
        browser.type("#s-category", "films & <more>")
        browser.click("form:has(#s-category) .button")
        browser.shows("summary", "films & <more>")
        self.assertEqual([one["name"] for one in daemon.api("GET", "/categories")], ["films & <more>"])
        browser.type("#s-tracker", "tracker.example")
        browser.click("form:has(#s-tracker) .button")
        browser.said("a limit of one of them")
        browser.type("#k0-down", "1.5")
        browser.click("form:has(#s-tracker) .button")
        browser.shows("section:has(#s-trackers) summary", "tracker.example")
        limits = lambda: daemon.api("GET", "/tracker-limits")
        self.assertEqual(limits(), {"tracker.example": {"download_limit": 1_572_864, "upload_limit": None}})
        browser.click("section:has(#s-trackers) summary")
        browser.click("section:has(#s-trackers) [value=remove]")
        until(lambda: limits() == {}, SOON, "no limits")
        browser.check(self, daemon.url, but=["400", "403"])

    def carry_out(self, browser, step):
        """A click on a selector; `(selector, text)` is typed, and `(selector, "=", value)` set as a choice or a time is."""
        if isinstance(step, str):
            browser.click(step)
        elif len(step) == 2:
            browser.type(*step)
        else:
            selector, _, value = step
            browser.find(selector)
            browser.script(
                """const one = document.querySelector(arguments[0]); one.value = arguments[1];
                one.dispatchEvent(new Event('change', {bubbles: true}))""",
                selector, value,
            )  # fmt: skip

    def test_each_control_changes_what_it_says(self):
        daemon, browser = self.daemon(), self.browser()
        for name in ("a.txt", "deep/b.txt"):
            fill(self.scratch / "tree" / name, 50_000, self.rng)
        daemon.add(create(self.scratch / "tree", self.scratch / "tree.meta", "-l", "16KiB"), paused="true")
        for name in ("two", "three"):
            daemon.add(self.metainfo(name), paused="true")
        daemon.api("POST", "/torrents/1/web-seeds", {"urls": ["http://127.0.0.1:9/x"]})
        daemon.api("PATCH", "/torrents/1/files", {"priorities": {"0": 0, "1": 0}})
        self.sign_in(browser, daemon)
        # How it stands after a step, as far as it is looked at.
        order = lambda: [one["id"] for one in sorted(daemon.torrents(), key=lambda one: one["position"])]
        field = lambda name, number=1: lambda: daemon.torrent(number)[name]
        forced = lambda: [one["forced"] for one in daemon.torrents()]
        setting = lambda *names: lambda: [daemon.api("GET", "/session")["settings"][name] for name in names]
        files = lambda name: lambda: {one[name] for one in daemon.api("GET", "/torrents/1/files")}
        web_seeds = lambda: daemon.api("GET", "/torrents/1/web-seeds")
        tags = lambda: daemon.api("GET", "/tags")
        categories = lambda: [(one["name"], one["dir"], one["download_limit"]) for one in daemon.api("GET", "/categories")]
        alternative = lambda: daemon.api("GET", "/session")["alternative"]
        queue, options, settings, home = "/t/3/options", "/t/1/options", "/settings", "/"
        order_form, goals_form = "form:has([name=first_last]) > .button", "form:has(#o-time-kind) > .button"
        other_limits, of_categories = "form:has(#s-adown) > .button", "section:has(#s-categories)"
        folder = str((self.scratch / "films").resolve())
        days = {"enabled": True, "from": 90, "to": 360, "days": 0x7F & ~(1 << 6)}
        all_three = ["#c1", "#c2", "#c3"]
        for path, steps, look, expected in [
            (queue, ["[value=top]"], order, [3, 1, 2]),
            (queue, ["[value=lower]"], order, [1, 3, 2]),
            (queue, ["[value=higher]"], order, [3, 1, 2]),
            (queue, ["[value=bottom]"], order, [1, 2, 3]),
            (options, ["[name=first_last]", order_form], field("first_last"), True),
            (options, ["[name=first_last]", order_form], field("first_last"), False),
            (options, ["[name=forced]", order_form], field("forced"), True),
            (options, ["[name=forced]", order_form], field("forced"), False),
            (options, [("#o-time-kind", "=", "value"), ("[name=minutes]", "90"), goals_form], field("seed_time_limit"), 5_400),
            (options, [("#o-time-kind", "=", "none"), goals_form], field("seed_time_limit"), "none"),
            (options, [("#o-time-kind", "=", "default"), goals_form], field("seed_time_limit"), None),
            (options, [("#o-ratio-kind", "=", "none"), goals_form], field("ratio_limit"), "none"),
            (options, [("#o-category", "series"), "form:has(#o-category) > .button"], field("category"), "series"),
            (options, [("#o-category", ""), "form:has(#o-category) > .button"], field("category"), None),
            ("/t/1/files", ["[name=all][value='4']"], files("priority"), {4}),
            ("/t/1", ["#rename-root", ("#rename-to", "other"), "dialog .primary"], files("path"), {"other/a.txt", "other/deep/b.txt"}),
            ("/t/1/trackers", ["#ws1"], web_seeds, []),
            (settings, [("#s-ratio", "1.5"), ("#s-minutes", "60"), "form:has(#s-ratio) > .button"], setting("ratio_limit", "seed_time_limit"), [1.5, 3_600]),
            (settings, [("#s-seeds", "4"), "form:has(#s-seeds) > .button"], setting("max_active_seeds"), [4]),
            (settings, ["[name=alternative]", ("#s-adown", "1"), ("#s-aup", "0.5"), other_limits], alternative, True),
            (settings, [], setting("alternative_download_limit", "alternative_upload_limit"), [MIB, MIB // 2]),
            (settings, ["[name=scheduled]", ("#s-from", "=", "01:30"), ("#s-to", "=", "06:00"), "[name=day][value='6']", other_limits], setting("schedule"), [days]),
            (settings, ["[name=scheduled]", other_limits], setting("schedule"), [{**days, "enabled": False}]),
            (settings, [("#s-tag", "one, two"), "form:has(#s-tag) .button"], tags, ["one", "two"]),
            (settings, ["[aria-label='Remove one']"], tags, ["two"]),
            (settings, [f"{of_categories} summary", f"{of_categories} details [value=remove]"], categories, []),
            (settings, [("#s-category", "films"), "form:has(#s-category) .button"], categories, [("films", None, None)]),
            (settings, [f"{of_categories} summary", ("#c1-dir", folder), ("#c1-down", "2"), f"{of_categories} details .button:not(.danger)"], categories, [("films", folder, 2 * MIB)]),
            (home, [*all_three, ("#more", "=", "force")], forced, [True] * 3),
            (home, [*all_three, ("#more", "=", "unforce")], forced, [False] * 3),
            (home, ["#c3", ("#more", "=", "top")], order, [3, 1, 2]),
            (home, ["#c3", ("#more", "=", "bottom")], order, [1, 2, 3]),
            (home, ["#b2"], field("paused", 2), True),
            (home, ["#b2"], field("paused", 2), False),
        ]:  # fmt: skip
            with self.subTest(path=path, steps=steps, expected=expected):
                # What the last step's page still does when its answer comes may take it elsewhere.
                until(lambda: browser.open(daemon.url + path) or browser.driver.current_url == daemon.url + path, SOON, f"{path} is open")
                for step in steps:
                    self.carry_out(browser, step)
                until(lambda: look() == expected, SOON, f"{expected} after {steps} of {path}; it is {look()}")
        for action, said in (("recheck", "checked again: 2 torrents"), ("reannounce", "Announced, as far as the trackers allow: 2 torrents")):
            browser.open(daemon.url)
            for step in ["#c1", "#c2", ("#more", "=", action)]:
                self.carry_out(browser, step)
            browser.said(said)
        browser.check(self, daemon.url)

    def test_the_list_is_ordered_and_narrowed(self):
        daemon, browser = self.daemon(), self.browser()
        for name, length, more in [("b", 300_000, {"category": "films"}), ("c", 100_000, {"tags": "new"}), ("a", 200_000, {"seed": "true", "dir": self.scratch / "data"})]:
            daemon.add(self.metainfo(name, length), **({"paused": "true"} if "seed" not in more else {}), **more)
        self.becomes(daemon, 3, state="seeding")
        self.sign_in(browser, daemon)
        rows = lambda: [row.get_attribute("id") for row in browser.all(".row")]

        def shows(selector, expected):
            browser.click(selector)
            until(lambda: browser.script("return [...document.querySelectorAll('.row')].map(row => row.id)") == expected, SOON, f"{expected} after {selector}: {rows()}")

        for selector, expected in [
            ("th.name a", ["t3", "t1", "t2"]),
            ("th.name a", ["t2", "t1", "t3"]),
            ("th.size a", ["t1", "t3", "t2"]),
            ("th.size a", ["t2", "t3", "t1"]),
        ]:
            shows(selector, expected)
        self.assertEqual(browser.find("th.size").get_attribute("aria-sort"), "ascending")
        link = lambda text: f"#sides a[href*='{text}']"
        for selector, expected in [
            (link("state=seeding"), ["t3"]),
            (link("state=paused"), ["t2", "t1"]),
            ("#g1", ["t2", "t3", "t1"]),
            ("#k1", ["t1"]),
            # A second click takes it back.
            ("#k1", ["t2", "t3", "t1"]),
            ("#l1", ["t2"]),
        ]:
            shows(selector, expected)
        browser.check(self, daemon.url)

    def test_data_is_removed_with_its_torrent_if_that_is_said(self):
        daemon, browser = self.daemon(), self.browser()
        for name in ("goes", "stays"):
            daemon.add(self.metainfo(name), dir=self.scratch / "data")
        for number in (1, 2):
            self.becomes(daemon, number, state="seeding")
        self.sign_in(browser, daemon)
        browser.click("#a1")
        browser.click("#do-remove")
        browser.shows("dialog", "be deleted with it")
        browser.click("#remove-delete")
        browser.find("#t2")
        until(lambda: [one["id"] for one in daemon.torrents()] == [2], SOON, "one torrent")
        self.assertEqual([path.name for path in (self.scratch / "data").iterdir()], ["stays"])
        browser.check(self, daemon.url)

    def test_a_file_is_played_by_an_address_that_can_be_taken_back(self):
        daemon, browser = self.daemon(), self.browser()
        for name in ("tune.wav", "notes.txt"):
            fill(self.scratch / "data/tree" / name, 50_000, self.rng)
        number = daemon.add(create(self.scratch / "data/tree", self.scratch / "tree.meta", "-l", "16KiB"), seed="true", dir=self.scratch / "data")
        self.sign_in(browser, daemon)
        self.becomes(daemon, number, state="seeding")
        browser.open(f"{daemon.url}/t/{number}/files")
        self.assertEqual(len(browser.all(".files .play")), 1, "only what browsers play")
        browser.click(".files .play")
        here, there = until(lambda: len(found := browser.driver.window_handles) == 2 and found, SOON, "another tab")
        browser.driver.switch_to.window(there)
        address = until(lambda: "/stream/" in (url := browser.driver.current_url) and url, SOON, "the file")
        browser.driver.close()
        browser.driver.switch_to.window(here)
        # It needs no cookie, so that other players open it too.
        with urllib.request.urlopen(address, timeout=SOON) as answer:
            self.assertEqual((answer.headers["content-type"], answer.read()), ("audio/wav", (self.scratch / "data/tree/tune.wav").read_bytes()))
        browser.open(f"{daemon.url}/t/{number}/files")
        browser.click("[name=do][value=end]")
        until(lambda: not browser.all("[name=do][value=end]"), SOON, "there are no addresses")
        with self.assertRaises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address, timeout=SOON)
        self.assertEqual(refused.exception.code, 404)

    def test_removal_asks_first(self):
        daemon, browser = self.daemon(), self.browser()
        for name in ("one", "two", "three"):
            daemon.add(self.metainfo(name), seed="true", dir=self.scratch / "data")
        self.sign_in(browser, daemon)
        browser.click("#c1")
        browser.click("#c2")
        browser.shows("#chosen-count", "2 selected")
        browser.click("#chosen [value=pause]")
        self.becomes(daemon, 1, paused=True)
        self.becomes(daemon, 2, paused=True)
        self.assertFalse(daemon.torrent(3)["paused"])
        browser.click("#remove-chosen")
        browser.shows("dialog", "Remove 2 torrents?")
        browser.click("[data-close]")
        self.assertEqual(len(daemon.torrents()), 3)
        browser.click("#remove-chosen")
        browser.click("#remove-keep")
        browser.said("Removed 2 torrents")
        self.assertEqual([one["id"] for one in daemon.torrents()], [3])
        until(lambda: not browser.all("#t1"), SOON, "the row is gone")
        self.assertEqual(len(list((self.scratch / "data").iterdir())), 3, "the data stays")

        browser.click("#a3")
        browser.click("#do-remove")
        browser.click("#remove-keep")
        browser.shows("#rows", "No torrents yet")
        browser.check(self, daemon.url)

    def seeder(self, length, rate):
        """A torrent `big`, and where a seeder of it is."""
        seeder = self.start(Process([
            BIN / "swarm", "seed", self.metainfo("big", length), self.scratch / "data/big", "--json", "--listen", "127.0.0.1:0", "--no-dht",
            "--state-dir", self.scratch / "seeder", "--max-up", rate,
        ]))  # fmt: skip
        return seeder.wait_event("listening")["addresses"][0]

    def test_a_peer_is_banned_and_let_back(self):
        peer = self.seeder(6 * MIB, "100KiB/s")
        daemon, browser = self.daemon(), self.browser()
        daemon.add(self.scratch / "big.meta", peers=peer)
        self.sign_in(browser, daemon)
        browser.open(f"{daemon.url}/t/1/peers")
        browser.shows("#peers", peer)
        browser.click("#ban1")
        browser.said("Banned")
        browser.shows("#peers", "No peer is connected")
        browser.open(f"{daemon.url}/settings")
        browser.shows("section:has(#s-bans)", "127.0.0.1")
        browser.click("[aria-label='Lift the ban of 127.0.0.1']")
        browser.shows("section:has(#s-bans)", "Nobody is banned")
        browser.check(self, daemon.url)

    def test_a_download_is_seen_to_go_on(self):
        peer = self.seeder(6 * MIB, "3MiB/s")
        daemon, browser = self.daemon(), self.browser()
        self.sign_in(browser, daemon)
        daemon.add(self.scratch / "big.meta", peers=peer)
        browser.shows("#t1 .progress", "%")
        browser.script("window.sameDocument = true; document.querySelector('#a1').focus()")
        browser.shows("#t1", "Seeding")
        self.assertTrue(browser.script("return window.sameDocument && document.activeElement.id === 'a1'"), "without a reload")
        browser.open(f"{daemon.url}/t/1")
        browser.shows("#map", "384 of 384 pieces are here")
        browser.check(self, daemon.url)


class Hostile(PageCase):
    def test_names_stay_text(self):
        daemon, browser = self.daemon(), self.browser()
        names = ["<script>window.bad=1</script>", "<img src=x onerror=window.bad=1>", "\u202egpj.exe", "x" * 10_000, "'\"><svg onload=window.bad=1>"]
        for at, name in enumerate(names):
            link = f"magnet:?xt=urn:btih:{at + 1:040x}&dn={urllib.parse.quote(name)}"
            daemon.api("POST", "/torrents", {"source": link, "paused": True, "category": "<b>c</b>", "tags": ["<i>t</i>"]})
        self.sign_in(browser, daemon)
        for number in range(1, len(names) + 1):
            for tab in ("", "/files", "/peers", "/trackers", "/options"):
                browser.open(f"{daemon.url}/t/{number}{tab}")
                self.assertLessEqual(browser.script("return document.documentElement.scrollWidth"), 1280)
        browser.open(daemon.url)
        browser.shows("#t1", "<script>window.bad=1</script>")
        self.assertEqual(browser.script("return [window.bad, document.querySelectorAll('#rows script, #rows img, #rows b').length]"), [None, 0])
        self.assertNotIn("\u202e", browser.text("#rows"))
        browser.check(self, daemon.url)


class Many(PageCase):
    def test_ten_thousand_are_scrolled_found_and_selected(self):
        daemon, browser = self.daemon(), self.browser()
        link = lambda nth: {"source": f"magnet:?xt=urn:btih:{nth + 1:040x}&dn=torrent%20{nth:05}", "paused": True}
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda nth: daemon.api("POST", "/torrents", link(nth)), range(MANY)))
        self.sign_in(browser, daemon)
        browser.open(f"{daemon.url}/?sort=name")
        browser.find("#rows .row")
        rows = "return [...document.querySelectorAll('.row')].filter(row => { const at = row.getBoundingClientRect(); return at.top >= 100 && at.bottom <= innerHeight }).map(row => row.querySelector('.name a').textContent.trim())"
        height = browser.script("return document.documentElement.scrollHeight")
        for part in (0.1, 0.9, 0.5, 0.501, 1.0, 0.0):
            browser.script("scrollTo(0, arguments[0])", int(height * part))
            is_filled = lambda: len(browser.script(rows)) >= 10
            until(is_filled, SOON, f"rows at {part} of the list")
            shown = browser.script(rows)
            first = int(shown[0].split()[1])
            self.assertEqual(shown, [f"torrent {nth:05}" for nth in range(first, first + len(shown))])
            self.assertLess(abs(first - part * MANY), 40, part)
            self.assertLessEqual(len(browser.all(".row")), ROWS_MAX)
        took = browser.script(
            "const start = performance.now(); return fetch('/rows?sort=down&from=5000').then(answer => answer.text()).then(() => performance.now() - start)"
        )
        print(f"          a window of {MANY} torrents took {took:.0f} ms")

        browser.script("document.querySelector('.row .name a').focus()")
        browser.keys("\ue010")
        until(lambda: browser.script("return document.activeElement.textContent.trim()") == "torrent 09999", SOON, "the last one")
        browser.keys("k")
        until(lambda: browser.script("return document.activeElement.textContent.trim()") == "torrent 09998", SOON, "the one before")

        browser.type("#search", "0777")
        until(lambda: browser.script("return document.querySelector('#list-state').dataset.total") == "11", SOON, "what is found")
        browser.click("#choose-all")
        browser.shows("#chosen-count", "11 selected")
        browser.click("#chosen [value=resume]")
        until(lambda: sum(not one["paused"] for one in daemon.api("GET", f"/torrents?limit={MANY}")["torrents"]) == 11, SOON, "11 resumed")
        browser.check(self, daemon.url)


class Keys(PageCase):
    def test_keys_do_what_they_say(self):
        daemon, browser = self.daemon(), self.browser()
        for name in ("a", "b", "c"):
            daemon.add(self.metainfo(name), paused="true")
        self.sign_in(browser, daemon)
        browser.open(f"{daemon.url}/?sort=name")
        focused = lambda: browser.script("return document.activeElement.id")
        browser.find("#t1")
        browser.keys("j")
        until(lambda: focused() == "a1", SOON, "the first row")
        browser.keys("\ue015")
        until(lambda: focused() == "a2", SOON, "the second row")
        browser.keys("x")
        browser.shows("#chosen-count", "1 selected")
        browser.keys("p")
        self.becomes(daemon, 2, paused=False)
        browser.keys("\ue00c")
        until(lambda: browser.script("return !document.documentElement.classList.contains('has-chosen')"), SOON, "nothing selected")
        browser.keys("\ue017")
        browser.shows("dialog", "Remove this torrent?")
        browser.keys("\ue00c")
        until(lambda: focused() == "a2", SOON, "the focus is back")
        browser.keys("/")
        until(lambda: focused() == "search", SOON, "the search")
        browser.keys("b")
        until(lambda: len(browser.all(".row")) == 1, SOON, "what is found")
        browser.keys("\ue00c", "?")
        browser.shows("dialog", "Next or previous torrent")
        browser.click("#keys-off")
        browser.keys("\ue00c", "a")
        self.assertFalse(browser.all("dialog[open]"), "single keys are left alone")
        browser.check(self, daemon.url)

    def test_keys_lead_through_the_list_and_to_other_pages(self):
        daemon, browser = self.daemon(), self.browser()
        for name in ("a", "b", "c"):
            daemon.add(self.metainfo(name), paused="true")
        self.sign_in(browser, daemon)
        browser.open(f"{daemon.url}/?sort=name")
        browser.find("#t3")
        focused = lambda: browser.script("return document.activeElement.id")
        for key, expected in [("j", "a1"), ("\ue010", "a3"), ("\ue013", "a2"), ("k", "a1"), ("j", "a2"), ("\ue011", "a1")]:
            browser.keys(key)
            until(lambda: focused() == expected, SOON, f"the focus on {expected} after {key!r}: {focused()}")
        browser.keys(" ")
        browser.shows("#chosen-count", "1 selected")
        browser.keys(" ")
        until(lambda: not browser.script("return document.documentElement.classList.contains('has-chosen')"), SOON, "nothing selected")
        browser.keys("a")
        browser.find("dialog[open] #add-links")
        browser.keys("\ue00c")
        until(lambda: not browser.all("dialog[open]"), SOON, "it closes")
        browser.keys("\ue007")
        until(lambda: browser.driver.current_url.endswith("/t/1"), SOON, "the torrent's page")
        browser.check(self, daemon.url)

    def test_what_screen_readers_need_is_there(self):
        daemon, browser = self.daemon(), self.browser()
        daemon.add(self.metainfo("a"), paused="true")
        self.sign_in(browser, daemon)
        for path in ("/", "/t/1", "/t/1/files", "/t/1/peers", "/t/1/trackers", "/t/1/options", "/settings", "/add", "/keys", "/login", "/remove?id=1"):
            browser.open(daemon.url + path)
            without = browser.script(
                """const named = one => one.labels?.length || one.getAttribute("aria-label") || one.textContent.trim() || one.title;
                return [...document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a")].filter(one => !named(one)).map(one => one.outerHTML)"""
            )
            self.assertEqual(without, [], path)
            counts = browser.script("return ['main', 'h1', 'html[lang]'].map(one => document.querySelectorAll(one).length)")
            self.assertEqual(counts, [1, 1, 1], path)
            doubled = browser.script("const ids = [...document.querySelectorAll('[id]')].map(one => one.id); return ids.filter((id, at) => ids.indexOf(id) !== at)")
            self.assertEqual(doubled, [], path)
        browser.open(daemon.url)
        browser.keys("\ue004")
        self.assertEqual(browser.script("return document.activeElement.className"), "skip")
        browser.check(self, daemon.url)

    def test_nothing_is_cut_off_on_a_phone(self):
        daemon = self.daemon()
        daemon.add(self.metainfo("a-name-that-is-longer-than-a-phone-is-wide-" * 4), paused="true")
        for dark in (False, True):
            browser = self.browser(390, 800, dark=dark)
            self.sign_in(browser, daemon)
            for path in ("/", "/t/1", "/t/1/files", "/t/1/peers", "/t/1/trackers", "/t/1/options", "/settings", "/add", "/remove?id=1"):
                browser.open(daemon.url + path)
                self.assertLessEqual(browser.script("return document.documentElement.scrollWidth"), 390, path)
            browser.check(self, daemon.url)


class Proxied(PageCase):
    def nginx(self, daemon, strips):
        port, scratch = free_port(), self.scratch / f"nginx-{strips}"
        scratch.mkdir()
        temp = " ".join(f"{kind}_temp_path {scratch}/temp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        forwards = "proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Proto https; proxy_set_header X-Forwarded-For $remote_addr;"
        (scratch / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {scratch}/pid; error_log {scratch}/log; events {{}} http {{ access_log off; {temp}"
            f"server {{ listen 127.0.0.1:{port}; location /below/it/ {{ proxy_pass {daemon.url}{'/' if strips else ''}; {forwards} proxy_buffering off; }} }} }}"
        )
        self.start(Process([program("nginx"), "-c", scratch / "nginx.conf"]))

        def answers():
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{port}/below/it/health", timeout=SOON).status
            except (urllib.error.HTTPError, OSError) as error:
                return getattr(error, "code", None)

        until(answers, SOON, "nginx")
        return f"http://127.0.0.1:{port}"

    def test_below_a_path_of_a_trusted_proxy(self):
        daemon = self.daemon("--http-base", "/below/it/", "--trusted-proxy", "127.0.0.1")
        number = daemon.add(self.metainfo("one"), paused="true")
        for strips in (False, True):
            origin = self.nginx(daemon, strips)
            browser = self.browser()
            browser.open(f"{origin}/below/it/?token={daemon.token}")
            # The cookie is for HTTPS, as the proxy says that the client uses it; browsers take this address as safe too.
            browser.find("#t1")
            browser.click("#a1")
            browser.click("#do-resume")
            self.becomes(daemon, number, paused=False)
            browser.click("#do-pause")
            self.becomes(daemon, number, paused=True)
            for link in ("files", "options"):
                browser.click(f".tabs [href$='/{link}']")
            browser.click("#back")
            browser.click("#open-add")
            browser.find("#add-links")
            browser.open(f"{origin}/below/it/settings")
            browser.find("#s-up")
            browser.check(self, f"{origin}/below/it/")

    def test_what_others_than_trusted_proxies_say_is_not_believed(self):
        daemon = self.daemon("--trusted-proxy", "192.0.2.1", "--http-host", "nas.example")
        host, port = daemon.http.rsplit(":", 1)

        def status(**headers):
            connection = http.client.HTTPConnection(host, int(port), timeout=SOON)
            with contextlib.closing(connection):
                connection.request("GET", "/health", headers={name.replace("_", "-"): value for name, value in headers.items()})
                return connection.getresponse().status

        self.assertEqual(status(host="nas.example"), 200)
        self.assertEqual(status(host="evil.example"), 421)
        self.assertEqual(status(host="evil.example", x_forwarded_host="nas.example"), 421)
