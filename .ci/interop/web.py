"""Web servers that have a torrent's files: real ones, and one that misbehaves as it is told."""

import http.server
import shutil
import subprocess
import sys
import threading
import urllib.request

from harness import LOOPBACK, MIB, SOON, Process, free_port, missing, new_scratch, program, until


class Server:
    """A server of the files below a folder. `url` is the folder's."""

    def __init__(self, folder, host=LOOPBACK):
        self.scratch = new_scratch(MIB)
        self.host, self.port = host, host.free_port()
        self.url = f"http://{host.endpoint(self.port)}/"
        self.process = Process(host.command(*self.command(folder)))
        until(lambda: self.answers(), SOON, f"{type(self).__name__} serves: {self.process}")

    def answers(self):
        probe = self.host.command("curl", "-sk", "-o", "/dev/null", self.url)
        return subprocess.run(probe).returncode == 0

    def stop(self):
        self.process.stop()
        shutil.rmtree(self.scratch, ignore_errors=True)


class Nginx(Server):
    def command(self, folder):
        temp = " ".join(f"{kind}_temp_path {self.scratch}/temp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config = self.scratch / "nginx.conf"
        config.write_text(
            f"daemon off; master_process off; pid {self.scratch}/pid; error_log {self.scratch}/log; events {{}}"
            f"http {{ access_log off; {temp} server {{ listen {self.host.endpoint(self.port)}{self.tls()}; root '{folder}'; }} }}"
        )
        return [program("nginx"), "-c", config]

    def tls(self):
        return ""


class NginxTls(Nginx):
    """With HTTP/2, and a certificate of its own."""

    def tls(self):
        self.url = self.url.replace("http:", "https:")
        self.certificate, key = self.scratch / "certificate.pem", self.scratch / "key.pem"
        name = ["-subj", "/CN=it", "-addext", f"subjectAltName=IP:{self.host.ip}", "-addext", "basicConstraints=critical,CA:FALSE"]
        new = [program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", self.certificate]
        subprocess.run([*new, *name], check=True, capture_output=True)
        return f" ssl http2; ssl_certificate {self.certificate}; ssl_certificate_key {key}"


class Lighttpd(Server):
    def command(self, folder):
        config = self.scratch / "lighttpd.conf"
        config.write_text(
            f'server.document-root = "{folder}"\nserver.bind = "127.0.0.1"\nserver.port = {self.port}\n'
        )
        return [program("lighttpd"), "-D", "-f", config]


class Caddy(Server):
    def command(self, folder):
        return [program("caddy"), "file-server", "--root", folder, "--listen", f"127.0.0.1:{self.port}"]


class S3:
    """moto's S3. Objects are public; `presigned` is the URL of one that is signed."""

    BUCKET, host = "releases", LOOPBACK

    def __init__(self, folder):
        try:
            import boto3
            import moto.server  # noqa: F401
        except ImportError:
            missing("moto[s3,server] is not installed")
        port = free_port()
        self.url = self.endpoint = f"http://127.0.0.1:{port}"
        self.process = Process([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port])
        until(self.answers, SOON, f"moto serves: {self.process}")
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        self.client = boto3.client("s3", endpoint_url=self.endpoint, **keys)
        self.client.create_bucket(Bucket=self.BUCKET, ACL="public-read")
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = str(path.relative_to(folder))
                self.client.put_object(Bucket=self.BUCKET, Key=key, Body=path.read_bytes(), ACL="public-read")
        self.url = f"{self.endpoint}/{self.BUCKET}/"

    answers = Server.answers

    def presigned(self, key):
        return self.client.generate_presigned_url("get_object", Params={"Bucket": self.BUCKET, "Key": key}, ExpiresIn=600)

    def stop(self):
        self.process.stop()


class Bad:
    """A server that answers as `answer(handler, body, first, last)` says; `good` sends what was asked for. Counts what it is asked."""

    def __init__(self, folder, answer):
        asked = self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                path = folder / urllib.request.url2pathname(self.path.split("?")[0]).lstrip("/")
                asked.append(self.path)
                body = path.read_bytes() if path.is_file() else None
                first, last = self.headers.get("Range", "bytes=0-0").removeprefix("bytes=").split("-")
                try:
                    answer(self, body, int(first), int(last))
                except OSError:
                    pass

            def reply(self, status, body=b"", **headers):
                self.send_response(status)
                length = headers.pop("length", len(body))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), str(value))
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

            def good(self, body, first, last):
                if body is None:
                    return self.reply(404)
                last = min(last, len(body) - 1)
                self.reply(206, body[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(body)}")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
