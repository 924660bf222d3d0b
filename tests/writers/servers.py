"""Servers through which files come in, on loopback, each in a directory of its own and ended at the end."""

import contextlib
import getpass
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

from room import PATIENCE


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextlib.contextmanager
def program(command, port, log, **options):
    """Runs a server, and goes on once it accepts connections."""
    with open(log, "wb") as said:
        # In a process group of its own: smbd ends its whole group when it ends, and the others leave children.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True, **options
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{command[0]} does not answer: {pathlib.Path(log).read_text()[-2000:]}")
            time.sleep(0.02)
        yield port
    finally:
        for end in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, end)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)


@contextlib.contextmanager
def web(pause):
    """Serves what is put into the dictionary; below /slow/ it pauses in the middle of the body."""
    contents = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            content = contents.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Disposition", "attachment")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            half = len(content) // 2
            self.wfile.write(content[:half])
            if self.path.startswith("/slow/"):
                self.wfile.flush()
                time.sleep(pause)
            self.wfile.write(content[half:])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", contents
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def sshd(directory):
    """OpenSSH's server with keys that are made for this and thrown away. Gives the options for scp and sftp."""
    directory.mkdir()
    for name in ("host", "user"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name]
        subprocess.run(key, check=True)
    shutil.copy(directory / "user.pub", directory / "authorized")
    port = free_port()
    (directory / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/authorized\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin yes\nMaxStartups 100\nSubsystem sftp internal-sftp\n"
    )
    # sshd wants the directory of its separated process, which Debian makes when the machine starts.
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    command = ["/usr/sbin/sshd", "-D", "-e", "-f", directory / "config"]
    with program(command, port, directory / "log"):
        yield [
            *("-i", directory / "user", "-P", str(port), "-F", "none", "-q", "-o", "BatchMode=yes"),
            *("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={directory}/known"),
        ]


@contextlib.contextmanager
def samba(directory, share):
    """Samba with one share for guests. Gives smbclient's arguments."""
    directory.mkdir()
    port, user = free_port(), getpass.getuser()
    places = "".join(
        f"{name} = {directory}\n"
        for name in ("private dir", "lock directory", "state directory", "cache directory", "pid directory")
    )
    (directory / "smb.conf").write_text(
        f"[global]\n{places}ncalrpc dir = {directory}/rpc\nsmb ports = {port}\ninterfaces = 127.0.0.1\n"
        f"bind interfaces only = yes\nserver role = standalone server\nmap to guest = bad user\n"
        f"guest account = {user}\ndisable spoolss = yes\nload printers = no\nlog level = 1\nmax log size = 0\n"
        f"log file = {directory}/log.smbd\n"
        f"[drop]\npath = {share}\nread only = no\nguest ok = yes\nguest only = yes\nforce user = {user}\n"
    )
    command = ["/usr/sbin/smbd", "--foreground", "--no-process-group", f"--configfile={directory}/smb.conf"]
    with program(command, port, directory / "log"):
        yield ["smbclient", "//127.0.0.1/drop", f"--port={port}", "-N", "-s", directory / "smb.conf"]


@contextlib.contextmanager
def ftp(directory, root):
    """vsftpd for anonymous clients, who may write where all may, but not to `root` itself. Gives its address."""
    directory.mkdir()
    (directory / "empty").mkdir()
    port = free_port()
    (directory / "vsftpd.conf").write_text(
        f"listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nanonymous_enable=YES\n"
        f"local_enable=NO\nwrite_enable=YES\nanon_upload_enable=YES\nanon_mkdir_write_enable=YES\n"
        f"anon_other_write_enable=YES\nanon_world_readable_only=NO\nanon_umask=022\nftp_username=ftp\n"
        f"anon_root={root}\nsecure_chroot_dir={directory}/empty\nseccomp_sandbox=NO\nxferlog_enable=NO\n"
    )
    with program(["/usr/sbin/vsftpd", directory / "vsftpd.conf"], port, directory / "log"):
        yield f"ftp://127.0.0.1:{port}"


class Browser:
    """Chromium without a window, driven by the protocol of WebDriver."""

    def __init__(self, port, profile):
        self.root = f"http://127.0.0.1:{port}"
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options = {"binary": shutil.which("chromium"), "args": [*arguments, f"--user-data-dir={profile}"]}
        capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        answer = self.call("/session", {"capabilities": capabilities})
        self.session = f"/session/{answer['value']['sessionId']}"

    def call(self, path, body):
        request = urllib.request.Request(
            self.root + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=PATIENCE) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"chromedriver: {path}: {error.read()[:1000]}") from None

    def download(self, url, directory):
        allow = {"behavior": "allow", "downloadPath": str(directory)}
        self.call(f"{self.session}/chromium/send_command", {"cmd": "Page.setDownloadBehavior", "params": allow})
        # A navigation that becomes a download has no end of its own.
        script = {"script": "location.href = arguments[0]", "args": [url]}
        self.call(f"{self.session}/execute/sync", script)

    def quit(self):
        with contextlib.suppress(OSError, AssertionError):
            request = urllib.request.Request(self.root + self.session, method="DELETE")
            urllib.request.urlopen(request, timeout=10).close()


@contextlib.contextmanager
def browser(directory):
    """A browser that downloads into any directory."""
    directory.mkdir()
    port = free_port()
    environment = {"HOME": str(directory), "PATH": os.environ["PATH"], "TMPDIR": str(directory)}
    with program(["chromedriver", f"--port={port}"], port, directory / "log", env=environment):
        chromium = Browser(port, directory / "profile")
        try:
            yield chromium
        finally:
            chromium.quit()
