"""What the benchmarks share: an emulator that takes everything, and the service that sends to it."""

import argparse
import contextlib
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time

MIB = 1 << 20
KEY = "sk-bench"


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Server:
    """An emulator that keeps nothing; what it saw of the requests is the measure."""

    def __init__(self, options):
        command = [*options.serve_with, options.binaries / "upspool-emulator", "--listen", options.listen]
        self.process = subprocess.Popen([*command, "--api-key", KEY, "--discard"], stdout=subprocess.PIPE, text=True)
        self.base = self.process.stdout.readline().strip()
        self.run_with = options.run_with

    def ask(self, path, body=None):
        """One small request by curl, from where the contenders run."""
        command = [*self.run_with, "curl", "-sS", "--fail-with-body", "--noproxy", "*", "-H", f"Authorization: Bearer {KEY}"]
        if body is not None:
            command += ["-H", "Content-Type: application/json", "--data-binary", "@-"]
        url = self.base.removesuffix("/v1") + path
        sent = None if body is None else json.dumps(body)
        answer = subprocess.run([*command, url], input=sent, capture_output=True, text=True, check=True)
        return json.loads(answer.stdout) if answer.stdout else None

    def reset(self):
        self.ask("/_emulator/reset", {})

    def record(self):
        return self.ask("/_emulator/requests")

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Peak(threading.Thread):
    """The most memory that a process had, read while it runs: nobody can ask afterwards."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.status, self.kib = pathlib.Path(f"/proc/{pid}/status"), 0
        self.start()

    def run(self):
        try:
            while "VmHWM" in (text := self.status.read_text()):
                self.kib = int(text.partition("VmHWM:")[2].split()[0])
                time.sleep(0.01)
        except OSError:
            pass

    def mib(self):
        self.join()
        return self.kib / 1024


class Bench:
    def __init__(self, options, scratch):
        self.options, self.scratch, self.server = options, scratch, Server(options)
        self.environment = os.environ | {"OPENAI_BASE_URL": self.server.base, "OPENAI_API_KEY": KEY}

    def run(self, command, files, total):
        """Seconds between the first create and the end of the last complete, as the server saw them, and what the process took."""
        self.server.reset()
        server_cpu = self.server.cpu()
        process = subprocess.Popen(
            [*self.options.run_with, *map(str, command)], env=self.environment, stdout=subprocess.PIPE, text=True
        )
        peak = Peak(process.pid)
        said = process.stdout.read()
        # wait4 tells of this process alone, unlike RUSAGE_CHILDREN. Its maxrss would begin with ours, from before exec.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"{command[0]} ended with {process.returncode}: {said}")
        return self.result(files, total, usage.ru_utime + usage.ru_stime, peak.mib(), server_cpu)

    def result(self, files, total, cpu, memory, server_cpu):
        record = self.server.record()
        requests = [one for one in record["requests"] if one["operation"] in ("create", "part", "complete")]
        refused = [one for one in requests if one["status"] != 200]
        sent = sum(one["data_bytes"] for one in requests if one["operation"] == "part")
        ends = [one["finished_ms"] for one in requests if one["operation"] == "complete"]
        if refused or sent != total or len(ends) != files:
            sys.exit(f"{len(refused)} requests were refused, {len(ends)} of {files} files and {sent} of {total} bytes came")
        seconds = (max(ends) - min(one["started_ms"] for one in requests)) / 1000
        return {"seconds": seconds, "cpu": cpu, "memory": memory, "server": self.server.cpu() - server_cpu}

    def configure(self, folders, upload="", folder_settings="", api=""):
        """Writes a configuration. What every command begins with."""
        configuration = self.scratch / "upspool.toml"
        plain = str("127.0.0.1" not in self.server.base).lower()
        tables = [f'[api]\nplain_http = {plain}\n{api}\n[log]\nlevel = "warn"\nformat = "text"\n[upload]\n{upload}\n']
        for folder in folders:
            tables.append(
                f'[[folder]]\npath = "{folder}"\npurpose = "user_data"\nsettle = "100ms"\nexisting = "upload"\n{folder_settings}\n'
            )
        configuration.write_text("".join(tables))
        return [self.options.binaries / "upspool", "--config", configuration, "--state-dir", self.scratch / "state"]

    def upspool(self, folder, upload="checksum = false", api=""):
        """The command that sends what lies in a folder, with a ledger that knows of nothing: of what it knows it would send nothing."""
        shutil.rmtree(self.scratch / "state", ignore_errors=True)
        return [*self.configure([folder], upload, api=api), "run", "--once"]


def parser_of_server():
    """The options that `Server` and `Bench` read."""
    parser = argparse.ArgumentParser()
    parser.add_argument("binaries", type=pathlib.Path)
    parser.add_argument("--serve-with", type=shlex.split, default=[])
    parser.add_argument("--run-with", type=shlex.split, default=[])
    parser.add_argument("--listen", default="127.0.0.1:0")
    return parser


@contextlib.contextmanager
def started(options, kind=Bench, place=os.environ.get("BENCH_DIR")):
    """A bench with its server in a scratch directory, both gone afterwards."""
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="upspool-bench.", dir=place))
    bench = kind(options, scratch)
    try:
        yield bench
    finally:
        bench.server.stop()
        shutil.rmtree(scratch, ignore_errors=True)


def machine():
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, load {load:.1f} at the start, Linux {os.uname().release}, {time.strftime('%Y-%m-%d')}"
