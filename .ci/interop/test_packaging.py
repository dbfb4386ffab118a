"""What packages have around the programs: units, configuration files, and how the programs speak with a service manager."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import time
import tomllib
import urllib.request
from fnmatch import fnmatch
from pathlib import Path

from clients import Swarm
from harness import BIN, LOOPBACK, MIB, ROOT, SOON, Case, Process, create, fill, free_port, missing, program, seeded, until
from test_daemon import DaemonCase

PACKAGING = ROOT / "cli/packaging"
SERVICES = ["swarm-daemon.service", "swarm-tracker.service"]
EXPOSURE_MAX = 2.0
WATCHDOG_US = 200_000
# What the Debian package holds: from where, to where, with which mode.
LISTED = tomllib.loads((ROOT / "cli/Cargo.toml").read_text())["package"]["metadata"]["deb"]["assets"]


def run(*args, env=None):
    done = subprocess.run([str(arg) for arg in args], capture_output=True, text=True, timeout=SOON, env=env)
    return done.returncode, done.stdout + done.stderr


class Manager:
    """What a service manager is told at the socket that `NOTIFY_SOCKET` names."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(SOON)
        self.env = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(WATCHDOG_US)}

    def close(self):
        self.socket.close()

    def next(self, skip=("WATCHDOG",)):
        """The next message that is none of these, by its fields."""
        deadline = time.monotonic() + SOON
        while time.monotonic() < deadline:
            message = dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())
            if not set(message) & set(skip):
                return message
        raise AssertionError(f"nothing but {skip}")


class Telling(DaemonCase):
    waits = 20

    def manager(self):
        manager = Manager(self.scratch / "notify")
        self.addCleanup(manager.close)
        return manager

    def goes_through_its_life(self, manager, process, reload_fails_when):
        ready = manager.next()
        self.assertEqual((ready["READY"], "serving" in ready["STATUS"]), ("1", True))
        for _ in range(3):
            self.assertEqual(manager.next(skip=()), {"WATCHDOG": "1"})
        process.process.send_signal(signal.SIGHUP)
        reloading = manager.next()
        self.assertEqual(reloading["RELOADING"], "1")
        self.assertGreater(int(reloading["MONOTONIC_USEC"]), 0)
        self.assertEqual(manager.next()["STATUS"], ready["STATUS"])
        reload_fails_when()
        process.process.send_signal(signal.SIGHUP)
        self.assertEqual(manager.next()["RELOADING"], "1")
        failed = manager.next()
        self.assertEqual(failed["READY"], "1", "it goes on")
        self.assertIn("line 1", failed["STATUS"])
        process.process.send_signal(signal.SIGTERM)
        self.assertEqual(manager.next(), {"STOPPING": "1"})
        process.expect(0)

    def test_the_daemon_says_how_it_goes(self):
        manager, config = self.manager(), self.scratch / "daemon.toml"
        config.write_text(f'dir = "{self.scratch}"\n')
        args = ["daemon", "--json", "--config", config, "--state-dir", self.scratch / "state", "--listen", "127.0.0.1:0"]
        command = [BIN / "swarm", *args, "--no-dht", "--no-lsd", "--http", "127.0.0.1:0"]
        daemon = self.start(Process(command, env=manager.env))
        self.goes_through_its_life(manager, daemon, lambda: config.write_text("dri = 1\n"))

    def test_the_tracker_says_how_it_goes(self):
        manager, config = self.manager(), self.scratch / "tracker.toml"
        config.write_text("numwant-max = 100\n")
        command = [BIN / "swarm-tracker", "--listen", "127.0.0.1:0", "--config", config]
        tracker = self.start(Process(command, env=manager.env))
        self.goes_through_its_life(manager, tracker, lambda: config.write_text("numwnat = 1\n"))

    def logged_at_first_start(self, name, journal):
        """What a daemon logs to a file when it starts first, and its token. `journal` makes the variable by which the file is the journal."""
        state, path = self.scratch / f"state-{name}", self.scratch / f"log-{name}"
        args = ["daemon", "--dir", self.scratch, "--state-dir", state, "--listen", "127.0.0.1:0", "--no-dht", "--no-lsd"]
        command = [str(part) for part in [BIN / "swarm", *args, "--http", "127.0.0.1:0"]]
        with open(path, "w") as log:
            of = os.fstat(log.fileno())
            env = {**os.environ, "JOURNAL_STREAM": journal(of.st_dev, of.st_ino)}
            daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, env=env)
        self.addCleanup(daemon.wait)
        self.addCleanup(daemon.kill)
        until(lambda: "swarm ctl" in path.read_text(), SOON, "it serves")
        return path.read_text(), (state / "daemon/token").read_text().strip()

    def test_the_journal_keeps_no_token(self):
        text, token = self.logged_at_first_start("journal", lambda device, inode: f"{device}:{inode}")
        self.assertNotIn(token, text)
        self.assertIn("daemon/token", text, "it says where it is")
        text, token = self.logged_at_first_start("terminal", lambda device, inode: f"{device}:{inode + 1}")
        self.assertIn(token, text)

    def test_a_program_on_completion_is_not_the_service(self):
        manager, told = self.manager(), self.scratch / "told"
        content = fill(self.scratch / "a.bin", MIB, seeded(1))
        meta = create(content, self.scratch / "a.meta")
        seed = self.start(Swarm.source(meta, self.scratch, host=LOOPBACK))
        command = ["/bin/sh", "-c", f"env > {told}.new; mv {told}.new {told}"]
        flags = [f"--on-complete={arg}" for arg in command]
        state, downloads = self.scratch / "state", self.scratch / "downloads"
        args = ["daemon", "--json", "--state-dir", state, "--dir", downloads, "--listen", "127.0.0.1:0", "--no-dht", "--no-lsd", "--no-http"]
        self.start(Process([BIN / "swarm", *args, *flags], env=manager.env)).wait_event("serving")
        self.socket = state / "daemon/socket"
        self.ctl("add", meta, "--peer", seed.address)
        until(told.exists, SOON, "the program has run")
        names = {line.split("=")[0] for line in told.read_text().splitlines()}
        self.assertFalse(names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS"})


class Sockets(DaemonCase):
    def activated(self, listen, *more):
        """A daemon with sockets of `systemd-socket-activate`, which starts it with the first connection."""
        state = self.scratch / "state"
        options = [part for where in listen for part in ("--listen", str(where))]
        args = ["daemon", "--json", "--state-dir", state, "--dir", self.scratch, "--listen", "127.0.0.1:0", "--no-dht", "--no-lsd"]
        activate = program("systemd-socket-activate")
        starting = self.start(Process([activate, *options, BIN / "swarm", *args, *more]))
        for where in listen:
            starting.wait_line(f"Listening on {where}")
        return starting

    def test_a_daemon_serves_on_sockets_that_are_handed_over(self):
        path, http = self.scratch / "handed", f"127.0.0.1:{free_port()}"
        daemon = self.activated([http, path])
        self.socket = path
        # It waits until the daemon is there: it is refused at no time.
        self.ctl("session")
        serving = daemon.wait_event("serving")
        self.assertEqual((serving["http"], serving["socket"]), ([http], str(path)))
        with urllib.request.urlopen(f"http://{http}/health", timeout=SOON) as answer:
            self.assertEqual(answer.status, 200)
        self.assertFalse((self.scratch / "state/daemon/socket").exists(), "no other is opened")
        daemon.stop()
        self.assertTrue(stat.S_ISSOCK(path.stat().st_mode), "who has opened it removes it")

    def test_sockets_come_before_the_configuration_and_it_says_so(self):
        path, http = self.scratch / "handed", f"127.0.0.1:{free_port()}"
        daemon = self.activated([http, path], "--http", "127.0.0.1:0", "--socket", path)
        self.socket = path
        self.ctl("session")
        self.assertEqual(daemon.wait_event("serving")["http"], [http])
        self.assertIn("http is passed over", daemon.wait_event("warning")["message"])
        self.assertEqual(len([event for event in daemon.events if event["event"] == "warning"]), 1, "the path is the same")

    def test_a_unix_socket_alone_leaves_http_to_the_configuration(self):
        path = self.scratch / "handed"
        daemon = self.activated([path], "--http", "127.0.0.1:0")
        self.socket = path
        self.ctl("session")
        port = daemon.wait_event("serving")["http"][0]
        self.assertEqual(urllib.request.urlopen(f"http://{port}/health", timeout=SOON).status, 200)

    def test_what_makes_no_sense_is_refused(self):
        http = f"127.0.0.1:{free_port()}"
        daemon = self.activated([http], "--no-http")
        with socket.create_connection(("127.0.0.1", int(http.rpartition(":")[2]))):
            daemon.expect(2)
            self.assertIn("no-http", daemon.find("failed")["message"] if daemon.find("failed") else str(daemon))


class Units(Case):
    def tuned(self, *names):
        """Copies of unit files that name the programs that are here."""
        folder = self.scratch / "units"
        folder.mkdir(exist_ok=True)
        for name in names:
            text = (PACKAGING / name).read_text()
            (folder / name).write_text(re.sub(r"/usr/bin/(swarm\S*)", rf"{BIN}/\1", text))
        return [folder / name for name in names]

    def exposure(self, *paths):
        code, text = run(program("systemd-analyze"), "security", "--offline=true", "--no-pager", *paths)
        figures = [float(one) for one in re.findall(r"Overall exposure level for \S+: ([\d.]+)", text)]
        self.assertEqual((code, len(figures)), (0, len(paths)), text)
        return figures

    def test_systemd_has_no_complaint(self):
        units = self.tuned(*SERVICES, "swarm-daemon.socket")
        env = {**os.environ, "SYSTEMD_UNIT_PATH": f"{self.scratch / 'units'}:"}
        code, text = run(program("systemd-analyze"), "verify", "--man=no", *units, env=env)
        ours = [line for line in text.splitlines() if "swarm" in line]
        self.assertEqual((code, ours), (0, []), text)

    def test_services_are_confined(self):
        for figure in self.exposure(*self.tuned(*SERVICES)):
            self.assertLessEqual(figure, EXPOSURE_MAX)

    def test_what_programs_need_is_lifted_and_no_more(self):
        service = self.tuned("swarm-daemon.service")[0]
        without = self.exposure(service)[0]
        # As the drop-in does: what comes later counts.
        service.write_text(service.read_text().replace("[Install]", (PACKAGING / "programs.conf").read_text() + "\n[Install]"))
        figure = self.exposure(service)[0]
        self.assertGreater(figure, without)
        self.assertLessEqual(figure, 3.0)

    def calls_allowed(self):
        def those_of(group):
            code, text = run(program("systemd-analyze"), "syscall-filter", "--no-pager", group)
            self.assertEqual(code, 0, text)
            for line in text.splitlines()[1:]:
                name = line.strip()
                if name.startswith("@"):
                    yield from those_of(name)
                elif name and not name.startswith("#"):
                    yield name

        allowed = set()
        for line in (PACKAGING / "swarm-daemon.service").read_text().splitlines():
            key, _, value = line.partition("=")
            if key == "SystemCallFilter":
                names = value.removeprefix("~").split()
                calls = {call for name in names for call in (those_of(name) if name.startswith("@") else [name])}
                allowed = allowed - calls if value.startswith("~") else allowed | calls
        return allowed

    def traced(self, state):
        """A daemon whose system calls go to a file."""
        traces = [self.scratch / f"trace-{nth}" for nth in range(2)]
        trace = next(path for path in traces if not path.exists())
        # With -D the process that is started is the daemon, and strace its child.
        strace = [program("strace"), "-D", "-f", "-qq", "-o", trace, "-e", "signal=none"]
        args = ["daemon", "--json", "--state-dir", state, "--dir", self.scratch / "downloads", "--allow-dir", self.scratch / "other"]
        net = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--no-lsd", "--no-port-mapping", "--dht-bootstrap", "127.0.0.1:9"]
        daemon = self.start(Process([*strace, BIN / "swarm", *args, *net]))
        daemon.wait_event("serving")
        return daemon, trace

    def test_the_filter_lets_the_daemon_make_its_calls(self):
        content = fill(self.scratch / "tree/a.bin", 3 * MIB, seeded(1))
        meta = create(content.parent, self.scratch / "a.meta")
        seed = self.start(Swarm.source(meta, self.scratch, host=LOOPBACK))
        state = self.scratch / "state"
        (self.scratch / "other").mkdir()

        def ctl(*args):
            done = run(BIN / "swarm", "ctl", "--socket", state / "daemon/socket", "--json", *args)
            self.assertEqual(done[0], 0, done[1])
            return done[1]

        seeds = lambda: '"seeding"' in ctl("list")
        first, trace_of_first = self.traced(state)
        ctl("add", meta, "--peer", seed.address)
        until(seeds, SOON, "it is complete")
        first.stop()
        # What the state vouches for is looked at in another way than what was just downloaded.
        second, trace_of_second = self.traced(state)
        until(seeds, SOON, "it is back")
        address = second.wait_event("listening")["addresses"][0]
        self.start(Swarm.downloader(meta, self.scratch / "third", [address])).wait_complete(SOON)
        ctl("recheck", "1")
        ctl("move", "1", self.scratch / "other")
        until(seeds, SOON, "it has moved")
        ctl("remove", "1", "--delete-data")
        second.stop()
        traces = trace_of_first.read_text() + trace_of_second.read_text()
        called = set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed>)", traces, re.MULTILINE))
        self.assertIn("mincore", called, "it has sent something")
        # As root, SQLite gives its files the database's owner.
        self.assertEqual(called - self.calls_allowed() - {"fchown"}, set())


class Files(Case):
    def whole(self, name):
        """The configuration file with each setting in force that it shows as an example."""
        text = (PACKAGING / name).read_text()
        return re.sub(r"^#(?=[a-z-]+ = )", "", text, flags=re.MULTILINE)

    def test_each_setting_of_the_daemons_file_is_one(self):
        for nth, text in enumerate([(PACKAGING / "daemon.toml").read_text(), self.whole("daemon.toml")]):
            config = self.scratch / f"daemon-{nth}.toml"
            # The password's folder is the state folder: the file is read for it, and all of it tried.
            state = self.scratch / "state"
            config.write_text(text.replace("/var/lib/swarmbt/state", str(state)))
            code, told = run(BIN / "swarm", "daemon", "--config", config, "password", "--remove")
            self.assertEqual((code, "there was no password" in told), (0, True), told)
        self.assertGreater(len(re.findall(r"^[a-z-]+ = ", self.whole("daemon.toml"), re.MULTILINE)), 25)

    def test_each_setting_of_the_trackers_file_is_one(self):
        folder = self.scratch / "etc"
        folder.mkdir()
        (folder / "store").write_text("redis://127.0.0.1:9/0\n")
        for nth, text in enumerate([(PACKAGING / "tracker.toml").read_text(), self.whole("tracker.toml")]):
            config = folder / f"tracker-{nth}.toml"
            # It gets as far as the files and addresses, which are not there.
            text = text.replace("/etc/swarmbt", str(folder)).replace("/run/credentials/swarm-tracker.service", str(folder))
            text = text.replace("0.0.0.0", "192.0.2.1").replace("[::]", "[2001:db8::1]")
            config.write_text(text)
            code, told = run(BIN / "swarm-tracker", "--config", config)
            self.assertEqual(code, 1, told)
            self.assertRegex(told, "cannot listen on|cannot read")

    def test_what_the_package_lists_is_there(self):
        made = self.scratch / "assets"
        program("help2man")
        code, told = run(PACKAGING / "build-assets", BIN, made)
        self.assertEqual(code, 0, told)
        for source, _, _ in LISTED:
            generated = source.removeprefix("target/release/assets/")
            folder, name = (made, generated) if generated != source else (ROOT / "cli", source)
            if name.startswith("target/release/"):
                folder, name = BIN, Path(name).name
            found = list(folder.glob(name) if ".." not in name else ROOT.glob(name.removeprefix("../")))
            self.assertTrue(found and all(path.is_file() for path in found), source)
        pages = {path.stem for path in (made / "man").iterdir()}
        self.assertLessEqual({"swarm", "swarm-daemon", "swarm-ctl-add", "swarm-tracker"}, pages)

    def test_the_manual_s_links_lead_to_what_the_package_has(self):
        docs = [source.removeprefix("../docs/") for source, target, _ in LISTED if target == "usr/share/doc/swarmbt/" and source.startswith("../docs/")]
        links = re.findall(r"\]\(([\w.-]+)(?:#[\w-]*)?\)", (ROOT / "docs/operating.md").read_text())
        self.assertLessEqual({"daemon.md", "tracker.md", "grafana.json"}, set(links))
        lost = [link for link in links if not any(fnmatch(link, doc) for doc in docs) or not (ROOT / "docs" / link).is_file()]
        self.assertEqual(lost, [])

    def test_the_user_is_made(self):
        root = self.scratch / "root"
        (root / "etc").mkdir(parents=True)
        code, told = run(program("systemd-sysusers"), f"--root={root}", PACKAGING / "sysusers.d/swarmbt.conf")
        self.assertEqual(code, 0, told)
        self.assertIn("swarmbt:", (root / "etc/passwd").read_text())


class Image(Case):
    """What the Containerfile puts together, in a folder, and what it runs, with nothing else of the system. With static programs in the folder
    SWARM_STATIC, as `just static` makes them, also their size; else the libraries that the programs here need are added."""

    SIZE_MAX = 25 * MIB

    def setUp(self):
        super().setUp()
        if os.geteuid() != 0:
            missing("only root changes its root")
        self.context = self.scratch / "context"
        self.static = os.environ.get("SWARM_STATIC")
        code, told = run(PACKAGING / "container-context", self.static or BIN, self.context)
        self.assertEqual(code, 0, told)

    def stage(self, name):
        """The instructions of a stage, by name, and the folder that its files make."""
        text = (PACKAGING / "Containerfile").read_text().split(f"FROM scratch AS {name}\n")[1].split("\nFROM")[0]
        lines = [line.split(" ", 1) for line in text.splitlines()]
        root = self.scratch / name
        root.mkdir()
        for _, rest in (line for line in lines if line[0] == "COPY"):
            owner = re.match(r"--chown=(\S+) ", rest)
            source, to = (self.context / rest.split()[-2], root / rest.split()[-1].strip("/"))
            if source.is_dir():
                shutil.copytree(source, to, dirs_exist_ok=True)
            else:
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, to)
            if owner:
                code, told = run("chown", "-R", owner[1], *(to / made.name for made in source.iterdir()))
                self.assertEqual(code, 0, told)
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        if self.static:
            self.assertLess(size, self.SIZE_MAX, f"{size / MIB:.1f} MiB")
        else:
            self.add_libraries(root)
        return dict(lines), root

    def add_libraries(self, root):
        for path in re.findall(r"(/\S+) \(0x", run("ldd", *(root / "usr/bin").iterdir())[1]):
            to = root / path.lstrip("/")
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to)

    def inside(self, stage, root, *command):
        user = stage["USER"]
        return [program("chroot"), f"--userspec={user}", root, *command]

    def runs(self, stage, root):
        """What the image runs, without a network: its ports are its own."""
        command = [part for name in ("ENTRYPOINT", "CMD") for part in json.loads(stage[name])]
        env = {"PATH": "/usr/bin", **dict([stage["ENV"].split("=")] if "ENV" in stage else [])}
        return self.start(Process([program("unshare"), "--net", *self.inside(stage, root, *command)], env=env))

    def written(self, root, before):
        return {str(path.relative_to(root)).split("/")[0] for path in root.rglob("*") if path not in before}

    def test_the_daemon_runs_and_says_that_it_is_well(self):
        stage, root = self.stage("daemon")
        before = set(root.rglob("*"))
        check = json.loads(stage["HEALTHCHECK"].removeprefix("CMD "))
        self.assertNotEqual(run(*self.inside(stage, root, *check))[0], 0, "nobody is there yet")
        daemon = self.runs(stage, root)
        until(lambda: run(*self.inside(stage, root, *check))[0] == 0, SOON, f"it is well: {daemon}")
        daemon.process.terminate()
        daemon.expect(0)
        self.assertEqual(self.written(root, before), {"state"})
        for volume in json.loads(stage["VOLUME"]):
            self.assertEqual((root / volume.strip("/")).stat().st_uid, 65532)

    def test_the_tracker_runs(self):
        stage, root = self.stage("tracker")
        before = set(root.rglob("*"))
        tracker = self.runs(stage, root)
        tracker.wait_line("listening on udp://0.0.0.0:6969")
        tracker.process.terminate()
        tracker.expect(0)
        self.assertEqual(self.written(root, before), {"state"})


# Run inside by the test's own unit: what it prints is looked at outside.
INSIDE = r"""#!/bin/bash
set -u
as() { echo "== $1"; shift; timeout 30 "$@" 2>&1; echo "-- $?"; }
state() { systemctl show -P ActiveState "$1"; }
as enabled systemctl is-enabled swarm-daemon.service swarm-daemon.socket swarm-tracker.service
as start systemctl start swarm-daemon swarm-tracker
as status systemctl show -P StatusText swarm-daemon
as confined systemd-analyze security --no-pager swarm-daemon swarm-tracker
as modes stat -c "%U:%G %a %n" /var/lib/swarmbt /var/lib/swarmbt/state /var/lib/swarmbt/downloads /run/swarmbt/socket
as create swarm create /usr/share/doc/swarmbt/operating.md -o /tmp/a.torrent --no-date -q
as ctl swarm ctl --json add /tmp/a.torrent --dir /srv/of-mine --paused
as elsewhere swarm ctl --json add /tmp/a.torrent --dir /opt
as stranger runuser -u nobody -- swarm ctl session
as health curl -sS http://127.0.0.1:6868/health
as tracker curl -sS http://127.0.0.1:6969/health
echo 'dri = "x"' >>/etc/swarmbt/daemon.toml
as reload systemctl reload swarm-daemon
as after-reload bash -c 'until systemctl show -P StatusText swarm-daemon | grep -q "line "; do sleep 0.05; done; systemctl show -P StatusText swarm-daemon'
sed -i '/^dri/d' /etc/swarmbt/daemon.toml
as journal journalctl -u swarm-daemon -o cat
as token cat /var/lib/swarmbt/state/daemon/token
as restart systemctl restart swarm-daemon
as kept swarm ctl --json list
as watchdog bash -c 'kill -STOP $(systemctl show -P MainPID swarm-daemon); until [ "$(systemctl show -P NRestarts swarm-daemon)" -gt 0 ] && [ "$(systemctl show -P ActiveState swarm-daemon)" = active ]; do sleep 0.05; done'
as sockets bash -c 'systemctl stop swarm-daemon && systemctl start swarm-daemon.socket && curl -sS http://127.0.0.1:6868/health && swarm ctl --json session'
as socket-stays bash -c 'systemctl restart swarm-daemon && curl -sS http://127.0.0.1:6868/health && systemctl stop swarm-daemon swarm-daemon.socket'
install -D -m 644 /usr/share/doc/swarmbt/programs.conf /etc/systemd/system/swarm-daemon.service.d/programs.conf
as programs bash -c 'systemctl daemon-reload && systemctl start swarm-daemon && swarm ctl --json list'
as stop systemctl stop swarm-daemon swarm-tracker
as ended systemctl show -P Result swarm-daemon swarm-tracker
systemctl --no-block poweroff
"""

CHECK_UNIT = """[Unit]
Wants=basic.target
After=basic.target
[Service]
Type=oneshot
ExecStart=/usr/local/bin/check-inside
StandardOutput=file:/result
StandardError=file:/result
"""


class Booted(Case):
    """The units under a systemd that is PID 1: in a container, on this machine's own files and what the test lays over them."""

    waits = 9

    def machine(self):
        if os.geteuid() != 0:
            missing("a container needs root")
        program("systemd-nspawn")
        over, root = self.scratch / "over", self.scratch / "root"
        for folder in (over, root):
            folder.mkdir()
        mount = lambda *args: run("mount", *args)
        self.assertEqual(mount("-t", "tmpfs", "-o", "size=400m", "none", over)[0], 0)
        self.addCleanup(run, "umount", "--lazy", over)
        (over / "up").mkdir()
        (over / "work").mkdir()
        code, told = mount("-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={over}/up,workdir={over}/work", root)
        if code != 0:
            missing(f"nothing can be laid over /: {told}")
        self.addCleanup(run, "umount", "--lazy", root)
        return root

    def install(self, root):
        """What the package installs, by its list, but for what is made when it is built."""
        for source, target, mode in LISTED:
            if source.startswith("target/release/assets/"):
                continue
            paths = [BIN / Path(source).name] if source.startswith("target/") else (ROOT / "cli" / source).parent.resolve().glob(Path(source).name)
            for path in paths:
                file = root / target / path.name if target.endswith("/") else root / target
                file.parent.mkdir(parents=True, exist_ok=True)
                file.unlink(missing_ok=True)
                file.write_bytes(path.read_bytes())
                file.chmod(int(mode, 8))
        units, etc = root / "usr/lib/systemd/system", root / "etc/swarmbt"
        # Everything on its loopback; it has no other network.
        with open(etc / "daemon.toml", "a") as config:
            config.write('no-dht = true\nno-lsd = true\nno-port-mapping = true\nallow-dir = ["/srv/of-mine"]\n')
        unit = units / "swarm-daemon.service"
        unit.write_text(unit.read_text().replace("WatchdogSec=3min", "WatchdogSec=2s"))
        code, told = run(program("systemd-sysusers"), f"--root={root}", "swarmbt.conf")
        self.assertEqual(code, 0, told)
        run("chroot", root, "install", "-d", "-o", "swarmbt", "-g", "swarmbt", "/srv/of-mine")
        script = root / "usr/local/bin/check-inside"
        script.write_text(INSIDE)
        script.chmod(0o755)
        (root / "etc/systemd/system/check.service").write_text(CHECK_UNIT)

    def test_the_units_do_what_they_say(self):
        root = self.machine()
        self.install(root)
        command = ["systemd-nspawn", "--quiet", "-D", root, "--register=no", "--keep-unit", "--private-network", "--link-journal=no"]
        container = self.start(Process([*command, "--boot", "systemd.unit=check.service"]))
        container.wait(180)
        result = root / "result"
        if not result.exists():
            self.skipTest(f"no systemd boots in a container here: {container}")
        told = {}
        for part in result.read_text().split("== ")[1:]:
            name, _, text = part.partition("\n")
            body, _, code = text.rpartition("-- ")
            told[name] = (int(code.split()[0]), body.strip())
        self.look_at(told)

    def look_at(self, told):
        say = lambda name: f"{name}: {told.get(name)}\n{told}"
        for name in ("start", "status", "modes", "create", "ctl", "health", "tracker", "restart", "kept", "watchdog", "sockets", "socket-stays", "programs", "stop"):
            self.assertEqual(told[name][0], 0, say(name))
        self.assertIn("serving http://127.0.0.1:6868/", told["status"][1])
        modes = dict(reversed(line.rsplit(" ", 1)) for line in told["modes"][1].splitlines())
        self.assertEqual(modes["/var/lib/swarmbt"], "swarmbt:swarmbt 750")
        self.assertEqual(modes["/var/lib/swarmbt/state"], "swarmbt:swarmbt 700")
        self.assertEqual(modes["/run/swarmbt/socket"], "swarmbt:swarmbt 600")
        self.assertIn("/opt", told["elsewhere"][1])
        self.assertNotEqual(told["elsewhere"][0], 0)
        self.assertIn("only the daemon's user and root may connect", told["stranger"][1])
        self.assertIn("line ", told["after-reload"][1])
        self.assertNotIn(told["token"][1], told["journal"][1])
        self.assertIn("operating.md", told["kept"][1])
        self.assertEqual(set(told["ended"][1].split()), {"success"})
