"""See folder.sh."""

import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

FILES = int(os.environ.get("BENCH_FILES", 100_000))
DIRECTORIES = int(os.environ.get("BENCH_DIRECTORIES", 10_000))
IDLE = float(os.environ.get("BENCH_IDLE", 60))
# So long nothing may happen before an end is given up.
PATIENCE = 120
# The time between rescans where they are measured, in seconds, and how many are.
RESCAN, RESCANS = 5, 5
TICKS = os.sysconf("SC_CLK_TCK")
TARGET = pathlib.Path(sys.argv[1]).resolve()


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def make_tree(root):
    """Directories two deep, and in each as many files, of 100 to 2 000 bytes that no other has."""
    dice, top = random.Random(1), max(1, round(DIRECTORIES**0.5))
    directories = [root / f"{number % top}" / f"{number // top}" for number in range(DIRECTORIES - top)]
    for directory in directories:
        directory.mkdir(parents=True)
    for number in range(FILES):
        path = directories[number % len(directories)] / f"{number}.jsonl"
        path.write_bytes(f"{number}\n".encode() + dice.randbytes(dice.randint(100, 2_000) - 8))


class Service:
    """The service with an emulator of its own, on one folder."""

    def __init__(self, scratch, folder):
        self.scratch, self.state = scratch, scratch / "state"
        self.emulator = subprocess.Popen(
            [TARGET / "upspool-emulator", "--api-key", "sk-bench", "--discard"], stdout=subprocess.PIPE, text=True
        )
        base = self.emulator.stdout.readline().strip()
        key = scratch / "key"
        key.write_text("sk-bench")
        key.chmod(0o600)
        self.config = scratch / "upspool.toml"
        self.settings = (
            f'[api]\nbase_url = "{base}"\nkey_file = "{key}"\n[store]\nstate_dir = "{self.state}"\n'
            f'[[folder]]\npath = "{folder}"\nname = "bench"\npurpose = "batch"\nexisting = "upload"\n'
        )
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in (self.process, self.emulator):
            if process and process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(self.state, ignore_errors=True)

    def start(self, rescan_interval="10m"):
        self.config.write_text(f'{self.settings}rescan_interval = "{rescan_interval}"\n')
        # Its log goes to a file, at the level that it has by default.
        with (self.scratch / "log").open("wb") as log:
            self.process = subprocess.Popen([TARGET / "upspool", "--config", self.config, "run"], stderr=log)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, "the service did not end well"

    def live(self):
        """What it says of itself; nothing while it starts."""
        command = [TARGET / "upspool", "--config", self.config, "status", "--json"]
        asked = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return json.loads(asked.stdout)["live"] if asked.returncode == 0 else None

    def stored(self):
        """How many files have a File ID."""
        try:
            with sqlite3.connect(f"file:{self.state}/upspool.db?mode=ro", uri=True, timeout=5) as store:
                return store.execute("SELECT count(*) FROM jobs WHERE file_id IS NOT NULL").fetchone()[0]
        except sqlite3.OperationalError:
            return 0  # There is no store yet.

    def until_stored(self, began, count):
        """Waits until so many are. When the first was, and when all were, in seconds from `began`."""
        first, last, moved = None, -1, time.monotonic()
        while last < count:
            stored, now = self.stored(), time.monotonic()
            if stored > max(last, 0):
                first = first or now - began
            if stored != last:
                last, moved = stored, now
            if self.process.poll() is not None or now - moved > PATIENCE:
                said = (self.scratch / "log").read_text()[-4_000:]
                sys.exit(f"only {stored} of {count} are stored\n{json.dumps(self.live())}\n{said}")
            time.sleep(0.02 if first is None else 0.2)
        return first, time.monotonic() - began

    def memory(self, what):
        """In MB."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1]) * 1024 / 1e6

    def watches(self):
        described = pathlib.Path(f"/proc/{self.process.pid}/fdinfo").iterdir()
        return sum(one.read_text().count("inotify wd:") for one in described)

    def cpu(self):
        """Seconds of the processor's time so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def until_idle(self):
        """Waits until it has done nothing for some seconds."""
        quiet, before = 0, self.cpu()
        while quiet < 5:
            time.sleep(1)
            now = self.cpu()
            quiet, before = (quiet + 1 if now - before < 0.02 else 0), now


def arrival(scratch, name, bring, start_first):
    """Everything is measured for one way in which the files come."""
    drop = scratch / "drop"
    drop.mkdir()
    with Service(scratch, drop) as service:
        if start_first:
            service.start()
            while not (live := service.live()) or not live["folders"][0]["last_scan"]:
                time.sleep(0.05)
        say(f"{name}: the files come")
        began = time.monotonic()
        bring(drop)
        came = time.monotonic() - began
        if not start_first:
            began = time.monotonic()
            service.start()
        first, took = service.until_stored(began, FILES)
        busy, peak = service.cpu(), service.memory("VmHWM")
        say(f"{name}: {took:.0f} s; waits until it is idle")
        service.until_idle()
        watches, before = service.watches(), service.cpu()
        time.sleep(IDLE)
        idle = (service.cpu() - before) / IDLE
        result = {
            "files come": came if start_first else None, "first": first, "took": took, "rate": FILES / took,
            "cpu": busy, "peak": peak, "steady": service.memory("VmRSS"), "watches": watches, "idle": idle,
        }  # fmt: skip
        service.stop()
        if not start_first:
            result |= rescans(service)
        say(f"{name}: {result}")
        return result


def rescans(service):
    """A scan begins so long after the last one has ended: what is between two ends beyond that is the scan."""
    service.start(f"{RESCAN}s")
    began, ends, before = time.monotonic(), [], 0
    while len(ends) <= RESCANS:
        live = service.live()
        last = live and live["folders"][0]["last_scan"]
        if last and last not in ends:
            if not ends:
                started, before = time.monotonic() - began, service.cpu()
            ends.append(last)
        # Each question costs the service something as well, so that few are asked where that is counted.
        time.sleep(1 if ends else 0.1)
    cpu = (service.cpu() - before) / RESCANS
    seconds = [float(end[17:-1]) + 60 * int(end[14:16]) for end in ends]
    scans = [(after - before) % 3600 - RESCAN for before, after in zip(seconds, seconds[1:])]
    service.stop()
    return {"start": started, "rescan": statistics.median(scans), "rescan cpu": cpu}


def timed(command):
    """The median of three; what they read was read just before."""
    times = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.monotonic() - began)
    return statistics.median(times)


def peers(scratch, tree):
    copy = scratch / "copy"
    env = ["env", f"RCLONE_CONFIG={os.devnull}"]
    # With its times, by which rclone knows that a file is the same.
    subprocess.run(["cp", "-a", tree, copy], check=True)
    say("find and rclone")
    results = {
        "find -type f": timed(["find", tree, "-type", "f", "-printf", "%s %T@ %C@ %i %P\\n"]),
        "rclone lsf -R": timed([*env, "rclone", "lsf", "-R", "--files-only", "--format", "pst", tree]),
        "rclone copy, nothing new": timed([*env, "rclone", "copy", tree, copy]),
    }
    shutil.rmtree(copy)
    return results


def table(results, others):
    rows = [
        ("all files are there after", "files come", "{:.1f} s"),
        ("the first File ID", "first", "{:.1f} s"),
        ("all File IDs", "took", "{:.0f} s"),
        ("files a second", "rate", "{:.0f}"),
        ("CPU until then", "cpu", "{:.0f} s"),
        ("memory, most", "peak", "{:.0f} MB"),
        ("memory, idle", "steady", "{:.0f} MB"),
        ("inotify watches", "watches", "{}"),
        ("idle: CPU of one core", "idle", "{:.3%}"),
    ]
    print(f"\n{FILES} files of 100 to 2 000 bytes in {DIRECTORIES} directories, {os.cpu_count()} cores:\n")
    print(f"| |{'|'.join(f' {name} ' for name in results)}|")
    print(f"| --- |{'|'.join(' ---: ' for _ in results)}|")
    for title, key, form in rows:
        cells = [form.format(result[key]) if result.get(key) is not None else "" for result in results.values()]
        print(f"| {title} | {' | '.join(cells)} |")
    one = next(result for result in results.values() if "rescan" in result)
    floor = others["find -type f"]
    print(f"\nA start with all of them known: {one['start']:.1f} s until the first scan has ended.\n")
    print("| a rescan, nothing new | seconds | to find |\n| --- | ---: | ---: |")
    for name, seconds in {"upspool": one["rescan"], **others}.items():
        print(f"| {name} | {seconds:.2f} | {seconds / floor:.1f} |")
    print(f"\nA rescan of upspool takes {one['rescan cpu']:.2f} s of CPU.")


def main():
    # So that what was begun is ended, and what was made is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    with tempfile.TemporaryDirectory(prefix="upspool-bench-", dir=os.environ.get("BENCH_DIR")) as place:
        scratch = pathlib.Path(place)
        say("makes the tree")
        stage = scratch / "stage"
        make_tree(stage)
        others = peers(scratch, stage)
        results = {}
        drop = scratch / "drop"
        results["lie there at the start"] = arrival(
            scratch, "lie there", lambda drop: stage.rename(drop / "tree"), start_first=False
        )
        (drop / "tree").rename(stage)
        drop.rmdir()
        results["moved in as one tree"] = arrival(
            scratch, "moved in", lambda drop: stage.rename(drop / "tree"), start_first=True
        )
        shutil.rmtree(drop)
        results["made one by one"] = arrival(scratch, "made", make_tree, start_first=True)
        table(results, others)


main()
