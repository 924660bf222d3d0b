"""Serves the page as the service does, with made up records in place of the service's, and looks at it with Chromium; then
the page and the metrics of the service itself with ten thousand files, and the alert rules that are made for them."""

import http.server
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "src/status/page"
# The policy is the service's own: what it forbids fails here too.
WEB = (ROOT / "src/status/web.rs").read_text()
POLICY = re.sub(r"\\\n\s*", "", re.search(r'const POLICY: &str = "(.*?)";', WEB, re.S).group(1))
STATES = ["queued", "uploading", "completing", "stored", "failed", "unresolved", "skipped", "cancelled", "gone"]
GIB = 1 << 30
# Files of the service that is looked at itself.
MANY = 10_000
NOW = time.time()


def at(seconds_ago=0):
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(NOW - seconds_ago))


def job(number, **said):
    base = dict(
        schema=1, id=number, folder="reports", path=f"/srv/drop/reports/2026/report {number:05}.pdf", path_base64=None,
        relative_path=f"2026/report {number:05}.pdf", filename=f"report {number:05}.pdf", bytes=1_234_567 + number * 977,
        purpose="user_data", mime_type="application/pdf", account="default", base_url="https://api.openai.com/v1",
        project=None, state="stored", waiting=None, requested=None, file_id=f"file-{number:022x}AbZ"[:31], upload_id=None,
        parts_total=1, parts_stored=1, attempts=0, restarts=0, md5=None, deduped_from=None, warnings=[], error=None,
        finish=dict(state="none", step=None, error=None, moved_to=None), due_at=None, upload_expires_at=None,
        found_at=at(number), stored_at=at(number), file_expires_at=None)
    return {**base, **said}


def failed(number, code, message, **said):
    error = dict(code=code, message=message, status=said.pop("status", None), request_id=None)
    return job(number, **{**dict(state="failed", file_id=None, stored_at=None, error=error), **said})


def folder(name, counts=(), waiting=(0, 0), paused=None):
    return dict(name=name, path=f"/srv/drop/{name}", paused=paused is not None, paused_why=paused,
                counts={state: dict(counts).get(state, 0) for state in STATES}, waiting_files=waiting[0], waiting_bytes=waiting[1])


def watched(name, state="events", why=None, paused=False, scan=True):
    return dict(name=name, path=f"/srv/drop/{name}", state=state, why=why, last_scan=at(75) if scan else None, paused=paused)


def active(number, path, bytes, sent, parts, state="uploading"):
    return dict(id=number, folder="batch", path=path, state=state, bytes=bytes, bytes_sent=sent, parts_stored=parts[0],
                parts_total=parts[1], expires_in=3100 - number)


def world(**said):
    live = dict(schema=1, version="0.1.0", pid=4711, stopping=False, slots=dict(parts=0, of=8, small=0), holds=[], paces=[],
                stuck=[], active=[], folders=[watched("batch"), watched("reports")], changing=[], changing_count=0, idle=True)
    live.update(said.pop("live", {}))
    return {**dict(live=live, folders=[folder("batch"), folder("reports")], jobs=[], failed=[]), **said}


def busy():
    files = [active(41, "evals/shard-0001-of-0004.jsonl", 6 * GIB, int(2.4 * GIB), (37, 96)),
             active(42, "evals/shard-0002-of-0004.jsonl", 2 * GIB, int(1.9 * GIB), (29, 32)),
             active(43, "small.jsonl", 40_000, 40_000, (1, 1), "completing")]
    changing = [dict(folder="batch", path="evals/shard-0003-of-0004.jsonl", bytes=GIB // 2, why="open-for-writing", seconds=95),
                dict(folder="reports", path="2026/scan.pdf", bytes=70_000, why="changing", seconds=1)]
    waiting = [job(40 - n, state="queued", waiting="slot", file_id=None, stored_at=None, folder="batch") for n in range(3)]
    due = job(37, state="queued", waiting="due", due_at=at(-90), file_id=None, stored_at=None)
    sending = [job(f["id"], state=f["state"], path=f"/srv/drop/batch/{f['path']}", relative_path=f["path"], bytes=f["bytes"],
                   file_id=None, stored_at=None, folder="batch") for f in files]
    return world(
        live=dict(slots=dict(parts=8, of=8, small=1), active=files, changing=changing, changing_count=2,
                  folders=[watched("batch"), watched("reports", "polling", "nfs tells nothing of what others do")]),
        folders=[folder("batch", dict(queued=3, uploading=2, completing=1, stored=1204, failed=1), (3, 9 * GIB)),
                 folder("reports", dict(queued=1, stored=318, skipped=12), (1, 1_300_000))],
        jobs=sending + waiting + [due] + [job(n) for n in range(1, 20)],
        failed=[failed(30, "file-rejected", "Invalid file format for Batch API. Must be .jsonl", status=400)])


def hold():
    reason = dict(code="key-rejected", remedy="check the key and that this host may use it")
    one = dict(scope="account default", message="HTTP 401: Incorrect API key provided", since=at(420), next_probe=at(-40), probes=6, **reason)
    stuck = dict(what="Part 3 of job 12", at="reading the file", seconds=301)
    pace = dict(account="eu", slots=2, until=at(-30))
    return world(live=dict(holds=[one], stuck=[stuck], paces=[pace]), folders=[folder("batch", dict(queued=12), (12, 5 * GIB)), folder("reports")],
                 jobs=[job(n, state="queued", waiting="slot", file_id=None, stored_at=None) for n in range(1, 13)])


def paused():
    why = "1204 files, 38 GiB lay there when it was first watched; existing = auto"
    return world(live=dict(folders=[watched("batch", paused=True), watched("reports", "missing", "No such file or directory", True, False)]),
                 folders=[folder("batch", dict(queued=1204), (1204, 38 * GIB), why), folder("reports", paused="by the operator")])


def failures():
    rows = [failed(1, "file-empty", "the file is empty"),
            failed(2, "preflight-failed", "line 17: no «custom_id»"),
            failed(3, "file-rejected", "HTTP 400: " + "the server has a lot to say about this file, " * 6, status=400),
            failed(4, "complete-unresolved", "two Files have its name, size and time", state="unresolved")]
    return world(folders=[folder("batch"), folder("reports", dict(failed=3, unresolved=1))], jobs=rows, failed=rows)


HOSTILE = ["<img src=x onerror=\"document.title='owned'\">.pdf", "\u202egpj.exe", "a\nb\tc\u0000\u001b[31m.pdf", "\u200b\ufeff.pdf",
           "שלום עולם 123.pdf", "</script><script>document.title='owned'</script>", "&lt;b&gt;.pdf", "x" * 240, "emoji 👩‍👩‍👧 名前.pdf", "back\\slash"]


def hostile():
    rows = [job(n, path=f"/srv/drop/reports/{name}", relative_path=name, filename=name) for n, name in enumerate(HOSTILE, 1)]
    words = [failed(n + 20, "file-rejected", name, path=f"/srv/drop/reports/{name}", relative_path=name) for n, name in enumerate(HOSTILE)]
    evil = folder("<b>evil</b>\u202e", dict(stored=10, failed=10))
    evil["path"] = "/srv/drop/<b>evil</b>\\xe2\\x80\\xae"
    return world(live=dict(folders=[dict(watched("x", why="<i>why</i>\u202e"), path=evil["path"])]), folders=[evil], jobs=rows, failed=words)


def many():
    return world(folders=[folder("batch"), folder("reports", dict(stored=9_950, failed=50))], jobs=[job(n) for n in range(50)],
                 failed=[failed(n, "server-error", "HTTP 503", status=503) for n in range(100, 150)])


def codes():
    text = (ROOT / "src/model/code.rs").read_text()
    found = re.findall(r'^\s+\w+ = "([a-z-]+)", "(.*)";$', text, re.M)
    return {code: remedy.replace('\\"', '"') for code, remedy in found}


DARK = ["--blink-settings=preferredColorScheme=0"]
ESCAPED = ["\\xe2\\x80\\xaegpj.exe", "a\\x0ab\\x09c\\x00\\x1b[31m.pdf", "back\\\\slash", "&lt;img src=x onerror="]
# Name: the world, the width, extra flags, what the page has to say and what it may not.
CASES = {
    "empty": (world(), 1200, [], ["✓ running", "No file was found yet.", "Nothing is being sent."], []),
    "busy": (busy(), 1200, [], ["✓ running", "39 %", "37 of 96 Parts stored", "1,204 stored", "open for writing for 1 min 35 s", "tried again at",
                                "mend the file or the folder"], []),
    "hold": (hold(), 1200, [], ["! on hold", "On hold: account default", "check the key", "Stuck: Part 3 of job 12", "Slowed down"], []),
    "paused": (paused(), 1200, [], ["‖ paused", "lay there when it was first watched", "✗ missing", "1,204 queued"], []),
    "failed": (failures(), 1200, [], ["✗ failed", "? unresolved", "put content into the file", "line 17"], []),
    "hostile": (hostile(), 1200, [], ESCAPED + ["&lt;b&gt;evil"], ["<img", "<b>", "<i>", "\u202e", "owned'</script"]),
    "many": (many(), 1200, [], ["9,950 stored", "the last 50"], []),
    # This one is the picture in the README, docs/page.png.
    "readme": (busy(), 1000, [], ["✓ running"], []),
    "dark": (busy(), 1200, DARK, ["✓ running"], []),
    "dark-hold": (hold(), 1200, DARK, ["! on hold"], []),
    "dark-failed": (failures(), 1200, DARK, ["✗ failed"], []),
    "narrow": (busy(), 390, [], ["✓ running"], []),
    "narrow-hold": (hold(), 390, [], ["! on hold"], []),
    "narrow-failed": (failures(), 390, [], ["✗ failed"], []),
    "narrow-hostile": (hostile(), 390, [], ESCAPED, []),
    "narrowest": (busy(), 320, DARK, ["✓ running"], []),
    "stopping": (world(live=dict(stopping=True)), 1200, [], ["■ stopping"], []),
    "silent": (None, 1200, [], ["✗ not answering", "the engine: reading the store for 31 s"], []),
    "token": ("token", 1200, [], ["? asks for a token", 'id="token"'], []),
}


class Server(http.server.BaseHTTPRequestHandler):
    shown = None

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        files = {"/": ("page.html", "text/html"), "/page.css": ("page.css", "text/css"), "/page.js": ("page.js", "text/javascript")}
        if url.path in files:
            name, kind = files[url.path]
            return self.say(200, (PAGE / name).read_bytes(), kind)
        if self.shown == "token":
            return self.say(401, b"no", "text/plain")
        if url.path == "/api/codes":
            return self.say(200, codes())
        if self.shown is None:
            return self.say(503, b"the engine: reading the store for 31 s", "text/plain")
        key = {"/api/status": "live", "/api/folders": "folders", "/api/jobs": "failed" if "state=" in url.query else "jobs"}.get(url.path)
        if key is None:
            return self.say(404, b"", "text/plain")
        record = self.shown[key]
        return self.say(200, record if key == "live" else {"schema": 1, "jobs" if url.path == "/api/jobs" else key: record})

    def say(self, status, body, kind="application/json"):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in [("Content-Type", kind + "; charset=utf-8"), ("Content-Length", str(len(body))), ("Content-Security-Policy", POLICY)]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def chromium(url, width, flags, *what):
    height = {390: 2400, 1000: 760}.get(width, 1100)
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               # A bar that still moves when the virtual time is over kept the picture back, now and then, for minutes.
               "--force-prefers-reduced-motion", f"--window-size={width},{height}",
               "--virtual-time-budget=5000", "--enable-logging=stderr", "--v=0", *flags, *what, url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    # What the policy refused, and what the script fell over.
    wrong = [line for line in ended.stderr.splitlines() if "CONSOLE" in line and "Failed to load resource" not in line]
    return ended.stdout, wrong


def get(url):
    try:
        return urllib.request.urlopen(url, timeout=30).read()
    except urllib.error.HTTPError as answer:
        return answer.read()


def real_service(pictures):
    """The service itself, whose server does not answer: its page, and its metrics by Prometheus's own check."""
    room = pathlib.Path(tempfile.mkdtemp(prefix="upspool-page-service-"))
    (room / "drop").mkdir()
    (room / "drop" / "<b>empty.pdf").write_bytes(b"")
    for number in range(MANY):
        path = room / "drop" / f"{number // 100:02}" / f"report {number:05}.pdf"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"one of many")
    (room / "key").write_text("sk-none")
    (room / "key").chmod(0o600)
    (room / "upspool.toml").write_text(f"""
[api]
base_url = "http://127.0.0.1:9"
key_file = "{room}/key"
[store]
state_dir = "{room}/state"
[log]
format = "json"
[status]
listen = "127.0.0.1:0"
[[folder]]
path = "{room}/drop"
purpose = "user_data"
settle = "100ms"
existing = "upload"
""")
    program = ROOT / "target/debug/upspool"
    service = subprocess.Popen([program, "--config", room / "upspool.toml", "run"], stderr=subprocess.PIPE, text=True)
    try:
        # Until the empty file is refused and the server is waited for.
        url, events = None, set()
        for line in service.stderr:
            said = json.loads(line)
            events.add(said["event"])
            url = said["listen"] if said["event"] == "status-page" else url
            if url and {"failed", "hold"} <= events:
                break
        # Nobody needs the rest, but a pipe that is full would hold the service up.
        threading.Thread(target=service.stderr.read).start()
        queued = f'upspool_jobs{{folder="drop",state="queued"}} {MANY}\n'
        deadline = time.monotonic() + 120
        while queued not in (metrics := get(url + "metrics").decode()):
            if time.monotonic() > deadline:
                return [f"not all of {MANY} files are queued: " + " ".join(re.findall(r"upspool_jobs.*", metrics))]
            time.sleep(0.2)
        dom, wrong = chromium(url, 1200, [], "--dump-dom")
        says = [f"{MANY:,} queued", "! on hold", "network", "check name resolution", "&lt;b&gt;empty.pdf", "1 failed",
                "put content into the file"]
        wrong += [f"does not say {text!r}" for text in says if text not in dom]
        chromium(url, 1200, [], f"--screenshot={pictures / 'service.png'}")
        checked = subprocess.run(["promtool", "check", "metrics"], input=metrics, capture_output=True, text=True)
        if checked.returncode != 0 or checked.stderr.strip():
            wrong.append("promtool: " + checked.stdout + checked.stderr)
        wrong += [f"{name} is missing" for name in ["upspool_hold_active{", "upspool_jobs{"] if name not in metrics]
        return wrong + alerts(metrics)
    finally:
        service.terminate()
        service.wait(60)


def alerts(metrics):
    """The rules of alerts, by Prometheus's own check and tests, and whether there are the metrics that they speak of."""
    wrong = []
    for what in (["check", "rules", "upspool.rules.yml"], ["test", "rules", "upspool.test.yml"]):
        ended = subprocess.run(["promtool", *what], cwd=ROOT / "packaging/prometheus", capture_output=True, text=True)
        wrong += [f"promtool {what[0]} rules: {ended.stdout}{ended.stderr}"] if ended.returncode else []
    spoken = set(re.findall(r"\bupspool_\w+", (ROOT / "packaging/prometheus/upspool.rules.yml").read_text()))
    told = set(re.findall(r"^# TYPE (\w+)", metrics, re.M))
    return wrong + [f"the rules speak of {name}, which there is not" for name in sorted(spoken - told)]


def main():
    wanted = sys.argv[1:] or [*CASES, "service"]
    pictures = pathlib.Path(tempfile.mkdtemp(prefix="upspool-page-"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url, faults = f"http://127.0.0.1:{server.server_port}/", 0
    for name in wanted:
        if name == "service":
            wrong = real_service(pictures)
            print(f"{name:15} {'ok' if not wrong else 'WRONG'}", *wrong, sep="\n    " if wrong else " ")
            faults += bool(wrong)
            continue
        Server.shown, width, flags, says, never = CASES[name]
        dom, wrong = chromium(url, width, flags, "--dump-dom")
        # What the browser made of it, without the notes of the source.
        wrong += [f"does not say {text!r}" for text in says if text not in dom]
        wrong += [f"says {text!r}" for text in never if text in dom]
        chromium(url, width, flags, f"--screenshot={pictures / (name + '.png')}")
        print(f"{name:15} {'ok' if not wrong else 'WRONG'}", *wrong, sep="\n    " if wrong else " ")
        faults += bool(wrong)
    print(pictures)
    return 1 if faults else 0


sys.exit(main())
