"""See growth.sh."""

import collections
import csv
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import time

from common import MIB, machine, parser_of_server, say, started

OUT = pathlib.Path(__file__).parent.parent / "docs" / "growth"
# Where all but the idle service is measured, and where that is: only a disk counts what is written to it.
FAST, DISK = os.environ.get("BENCH_DIR"), os.environ.get("BENCH_DISK", "/var/tmp")
# New files with which the cost of one is measured.
NEW = 500
# Seconds for which a service with nothing to do is left alone first, so that what ended with the start has ended, and then looked at.
REST, LOOK = 15, 20


class Service:
    """The service as systemd would start it."""

    def __init__(self, bench, command):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
            heard.bind(str(bench.scratch / "notify"))
            heard.settimeout(120)
            environment = bench.environment | {"NOTIFY_SOCKET": heard.getsockname()}
            began = time.monotonic()
            self.process = subprocess.Popen([*bench.options.run_with, *map(str, command), "run"], env=environment)
            while b"READY=1" not in heard.recv(4096):
                pass
            self.ready = time.monotonic() - began
        (bench.scratch / "notify").unlink()
        self.proc = pathlib.Path(f"/proc/{self.process.pid}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(60) != 0:
            sys.exit("the service did not end well")

    def cpu(self):
        """Seconds of the processor's time so far, of threads that have ended as well: clock_getcpuclockid(3), to the nanosecond."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def number(self, file, field):
        return int((self.proc / file).read_text().partition(f"{field}:")[2].split()[0])

    def wakes(self):
        each = [(task / "status").read_text() for task in (self.proc / "task").iterdir()]
        return sum(int(one.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for one in each)

    def watches(self):
        return sum(one.read_text().count("inotify wd:") for one in (self.proc / "fdinfo").iterdir())

    def until_idle(self):
        """Waits until it has taken less than 1 % of a core for 1.5 s; how many seconds went by before those."""
        began, quiet, before = time.monotonic(), 0, self.cpu()
        while quiet < 3:
            time.sleep(0.5)
            now = self.cpu()
            quiet, before = (quiet + 1 if now - before < 0.005 else 0), now
        return time.monotonic() - began - 1.5


def make(folder, count, length):
    """Files with holes for content: reading them costs memory bandwidth, and no disk."""
    folder.mkdir()
    for number in range(count):
        with open(folder / f"{number}.bin", "wb") as out:
            out.truncate(length)


def median(rounds, measure):
    runs = [measure() for _ in range(rounds)]
    return {field: statistics.median(run[field] for run in runs) for field in runs[0]}


def sent(options, bench, count, length, upload, rounds):
    folder = bench.scratch / "drop"
    make(folder, count, length)
    result = median(rounds, lambda: bench.run(bench.upspool(folder, upload), count, count * length))
    shutil.rmtree(folder)
    say(f"{count} of {length} bytes, {upload!r}: {result}")
    return {"seconds": result["seconds"], "cpu_s": result["cpu"], "peak_mib": result["memory"]}


def size(options):
    with started(options, place=FAST) as bench:
        for mib in [1, 4, 16, 64] if options.quick else [1, 4, 16, 64, 256, 1024, 4096]:
            for checksum in ("false", "true"):
                result = sent(options, bench, 1, mib * MIB, f"checksum = {checksum}", options.rounds)
                yield {"mib": mib, "checksum": checksum} | result


def files(options):
    with started(options, place=FAST) as bench:
        for count in [10, 30, 100, 300] if options.quick else [100, 1_000, 10_000, 30_000]:
            result = sent(options, bench, count, 1024, "", options.rounds)
            yield {"files": count} | result | {"cpu_ms_per_file": 1000 * result["cpu_s"] / count}


def parts(options):
    with started(options, place=FAST) as bench:
        for slots in (1, 2, 4, 8, 16, 32):
            upload = f"checksum = false\nparallel_parts = {slots}"
            length = (64 if options.quick else 1024) * MIB
            yield {"parallel_parts": slots} | sent(options, bench, 1, length, upload, options.rounds)


def add_rows(database, count):
    """Jobs like the one that is there, older by a second each, with all that belongs to it. No file of theirs is left."""
    store = sqlite3.connect(database)
    store.execute("PRAGMA synchronous = OFF")

    def copy(table, **values):
        columns = [row[1] for row in store.execute(f"PRAGMA table_info({table})")]
        for column in columns:
            if column.endswith("_at") and column not in ("server_created_at", "due_at", "file_expires_at"):
                values.setdefault(column, f"{column} - 1000 * n")
        columns = [one for one in columns if one != "id" or "id" in values]
        chosen = ", ".join(values.get(column, column) for column in columns)
        store.execute(
            f"WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {count}) "
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {chosen} FROM series, "
            f"(SELECT * FROM {table} WHERE {'id' if table == 'jobs' else 'job'} = 1)"
        )

    copy(
        "jobs",
        id="n + 1",
        path="CAST(printf('report-%010d.jsonl', n) AS BLOB)",
        filename="printf('report-%010d.jsonl', n)",
        file_id="printf('file-%024x', n)",
        inode="inode + n",
    )
    copy("uploads", job="n + 1", upload_id="printf('upload_%024x', n)")
    copy("parts", job="n + 1", part_id="printf('part_%024x', n)")
    copy("history", job="n + 1", at="at - 1000 * n")
    store.commit()
    query = "SELECT count(*) FROM jobs WHERE stage = 'stored' AND present = 0"
    if store.execute(query).fetchone()[0] != 1 + count:
        sys.exit("the rows are not those of stored jobs whose files are gone")
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()


def timed(command, environment):
    began = time.monotonic()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return 1000 * (time.monotonic() - began)


def ledger(options):
    for rows in [0, 100, 1_000, 10_000] if options.quick else [0, 10_000, 100_000, 1_000_000]:
        with started(options, place=FAST) as bench:
            drop, database = bench.scratch / "drop", bench.scratch / "state" / "upspool.db"
            make(drop, 1, 1024)
            command = bench.configure([drop], folder_settings='after_upload = "delete"')
            subprocess.run([*command, "run", "--once"], env=bench.environment, stdout=subprocess.DEVNULL, check=True)
            if rows:
                add_rows(database, rows)
            result = {"rows": rows + 1, "database_mib": database.stat().st_size / MIB}
            command = bench.configure([drop])
            ready = []
            for _ in range(options.rounds):
                with Service(bench, command) as service:
                    ready.append(service.ready)
            with Service(bench, command) as service:
                busy = service.until_idle()
                result |= {"ready_s": statistics.median(ready), "busy_s": busy, "busy_cpu_s": service.cpu()}
                for name in ("status", "list"):
                    result[f"{name}_ms"] = statistics.median(timed([*command, name], bench.environment) for _ in range(5))
                cost = [arrival(bench, service, drop, database, rows + 1 + NEW * batch) for batch in range(options.rounds)]
                result |= {"cpu_ms_per_file": statistics.median(cost), "peak_mib": service.number("status", "VmHWM") / 1024}
        say(f"ledger: {result}")
        yield result


def arrival(bench, service, drop, database, after):
    """What a new file costs, in milliseconds of CPU time, where so many jobs are known."""
    make(bench.scratch / "new", NEW, 1024)
    service.until_idle()
    before, deadline = service.cpu(), time.monotonic() + 120
    (bench.scratch / "new").rename(drop / f"after-{after}")
    stored = 0
    while stored < NEW:
        if time.monotonic() > deadline:
            sys.exit(f"{stored} of {NEW} new files were stored")
        time.sleep(0.1)
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5) as store:
            stored = store.execute("SELECT count(*) FROM jobs WHERE id > ? AND stage = 'stored'", [after]).fetchone()[0]
    service.until_idle()
    return 1000 * (service.cpu() - before) / NEW


def directories(options):
    """A folder of so many directories, two deep, and no files; and as many directories in several folders."""
    shapes = [(1, 1), (1, 100), (1, 1_000), (1, 10_000), (10, 1_000), (100, 100)]
    for folders, count in [(1, 1), (1, 10), (1, 100), (4, 25)] if options.quick else shapes:
        with started(options, place=DISK) as bench:
            drops = [bench.scratch / f"drop-{number}" for number in range(folders)]
            for drop in drops:
                top = round(count**0.5)
                for number in range(count - 1 - top if count > 1 else 0):
                    (drop / f"{number % top}" / f"{number // top}").mkdir(parents=True)
                drop.mkdir(exist_ok=True)
            with Service(bench, bench.configure(drops)) as service:
                time.sleep(2 if options.quick else REST)
                service.until_idle()
                look = 2 if options.quick else LOOK
                values = lambda: (service.cpu(), service.wakes(), service.number("io", "write_bytes"))
                before = values()
                if before[2] == 0:
                    sys.exit(f"BENCH_DISK is {DISK}, where the kernel does not count what is written: not a disk")
                time.sleep(look)
                cpu, wakes, written = (after - one for after, one in zip(values(), before))
                result = {
                    "directories": folders * count,
                    "folders": folders,
                    "watches": service.watches(),
                    "threads": service.number("status", "Threads"),
                    "cpu_percent": 100 * cpu / look,
                    "wakes_per_s": wakes / look,
                    "rss_mib": service.number("status", "VmRSS") / 1024,
                    "rss_anon_mib": service.number("status", "RssAnon") / 1024,
                    "peak_mib": service.number("status", "VmHWM") / 1024,
                    "disk_write_bytes": written,
                }
        say(f"directories: {result}")
        yield result


Curve = collections.namedtuple("Curve", "measure x across series panels")
Panel = collections.namedtuple("Panel", "column title log", defaults=[False])
CURVES = {
    "size": Curve(
        size, "mib", "size of the file, MiB", "checksum",
        [Panel("seconds", "seconds", True), Panel("cpu_s", "CPU seconds", True), Panel("peak_mib", "peak memory, MiB")],
    ),
    "files": Curve(
        files, "files", "files of 1 KiB", None,
        [Panel("seconds", "seconds", True), Panel("cpu_ms_per_file", "CPU ms per file"), Panel("peak_mib", "peak memory, MiB")],
    ),
    "ledger": Curve(
        ledger, "rows", "stored jobs in the ledger", None,
        [
            Panel("cpu_ms_per_file", "CPU ms per new file"), Panel("ready_s", "start until READY, s"),
            Panel("busy_s", "then until idle, s"), Panel("status_ms", "upspool status, ms"), Panel("list_ms", "upspool list, ms"),
            Panel("database_mib", "database, MiB", True),
        ],
    ),
    "parts": Curve(
        parts, "parallel_parts", "parallel_parts, one file of 1 GiB", None,
        [Panel("seconds", "seconds"), Panel("peak_mib", "peak memory, MiB")],
    ),
    "directories": Curve(
        directories, "directories", "watched directories, idle", "folders",
        [
            Panel("cpu_percent", "% of a core"), Panel("rss_mib", "memory (VmRSS), MiB"),
            Panel("rss_anon_mib", "its own of that (RssAnon), MiB"),
        ],
    ),
}  # fmt: skip


def plot(name):
    """A picture of the raw figures, the same bytes for the same figures."""
    import matplotlib
    from matplotlib import pyplot, ticker

    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 8, "font.family": "sans-serif"}
    curve = CURVES[name]
    with open(OUT / f"{name}.csv") as file:
        rows = list(csv.DictReader(file))
    across = min(3, len(curve.panels))
    down = len(curve.panels) // across
    figure, axes = pyplot.subplots(down, across, figsize=(2.6 * across, 2.2 * down), layout="constrained")
    for axis, panel in zip(axes.flat, curve.panels):
        for series in dict.fromkeys(row.get(curve.series) for row in rows):
            some = [row for row in rows if row.get(curve.series) == series]
            label = series and f"{curve.series} = {series}"
            points = [float(row[curve.x]) for row in some], [float(row[panel.column]) for row in some]
            axis.plot(*points, marker="o", markersize=3.5, linewidth=1.2, label=label)
        ticks = sorted({int(row[curve.x]) for row in rows})
        axis.set_xscale("log")
        axis.set_xticks(ticks, labels=[shown(tick) for tick in ticks], minor=False)
        axis.set_xticks([], minor=True)
        axis.tick_params(labelsize=7)
        if panel.log:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_locator(ticker.NullLocator())
        else:
            axis.set_ylim(0, max(1.15 * max(float(row[panel.column]) for row in rows), 1e-3))
        axis.set_title(panel.title, fontsize=9)
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    if curve.series:
        axes.flat[0].legend(frameon=False, fontsize=7)
    figure.supxlabel(curve.across, fontsize=8)
    figure.savefig(OUT / f"{name}.svg", facecolor="white", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})


def shown(number):
    return f"{number:,}".replace(",", "\u202f") if number < 10_000 else f"{number // 1000:,}k".replace("1,000k", "1M")


def main():
    # So that what was begun is ended, and what was made is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    parser = parser_of_server()
    parser.add_argument("--quick", action="store_true", help="small numbers and one round: to see that it runs; nothing is kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(CURVES))
    parser.add_argument("--plot", action="store_true", help="measure nothing: draw the figures that are there")
    options = parser.parse_args()
    options.rounds = 1 if options.quick else options.rounds
    OUT.mkdir(exist_ok=True)
    print(machine())
    for name in options.only.split(","):
        if not options.plot:
            form = lambda value: f"{value:.4g}" if isinstance(value, float) else str(value)
            rows = [{key: form(value) for key, value in row.items()} for row in CURVES[name].measure(options)]
            text = "".join(",".join(line) + "\n" for line in [rows[0], *(row.values() for row in rows)])
            print(f"\n{text}", end="", flush=True)
            if options.quick:
                continue
            (OUT / f"{name}.csv").write_text(text)
        plot(name)


main()
