"""A folder, the emulator and the service, all of them the real programs. Who waits, waits for a line of the log."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

KEY = "sk-writers"
# Longer than anything takes on a busy machine; only a check that fails waits for so long.
PATIENCE = 60


class Room:
    """Use it with `with`: at the end its programs are ended and its directory is gone, whatever happened."""

    def __init__(self, target, parent=None, folder_settings="", log_level="info", storage=()):
        # So that `__exit__` is come to.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
        self.target = pathlib.Path(target).resolve()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="upspool-", dir=parent))
        self.drop = self.dir / "drop"
        self.drop.mkdir()
        self.lines, self.news = [], threading.Condition()
        self.service = None
        self.emulator = subprocess.Popen(
            [self.target / "upspool-emulator", "--api-key", KEY, *storage], stdout=subprocess.PIPE, text=True
        )
        self.base = self.emulator.stdout.readline().strip()
        (self.dir / "key").write_text(KEY)
        (self.dir / "key").chmod(0o600)
        (self.dir / "upspool.toml").write_text(
            f'[api]\nbase_url = "{self.base}"\nkey_file = "{self.dir}/key"\n'
            f'[store]\nstate_dir = "{self.dir}/state"\n'
            f'[log]\nlevel = "{log_level}"\nformat = "json"\n'
            f'[[folder]]\npath = "{self.drop}"\nname = "drop"\npurpose = "user_data"\n{folder_settings}\n'
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in (self.service, self.emulator):
            if process and process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def command(self, *arguments):
        return [self.target / "upspool", "--config", self.dir / "upspool.toml", *arguments]

    def environment(self):
        # What the environment says otherwise must not reach the service.
        return {"HOME": str(self.dir), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}

    def start(self, wrapper=()):
        """Starts the service, and returns once it is ready."""
        self.service = subprocess.Popen(
            [*wrapper, *self.command("run")], env=self.environment(), stderr=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._read, args=(self.service.stderr,), daemon=True).start()
        return self.wait("it is ready", lambda line: line["event"] == "ready")

    def _read(self, stderr):
        for text in stderr:
            try:
                line = json.loads(text)
            except ValueError:
                line = {"text": text}
            line.setdefault("event", None)
            line["heard"] = time.monotonic()
            with self.news:
                self.lines.append(line)
                self.news.notify_all()
        with self.news:
            self.lines.append({"event": "ended", "heard": time.monotonic()})
            self.news.notify_all()

    def wait(self, what, found, times=1, since=0, patience=PATIENCE):
        """The line of the log that is the nth of those that are `found`, from line number `since` on."""
        deadline = time.monotonic() + patience
        looked, seen = since, 0
        with self.news:
            while True:
                for line in self.lines[looked:]:
                    looked += 1
                    if found(line):
                        seen += 1
                        if seen == times:
                            return line
                    if line["event"] == "ended":
                        raise AssertionError(f"the service ended before {what}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"waited in vain for {patience} s: {what}; {seen} of {times}")
                self.news.wait(left)

    def wait_stored(self, path, times=1):
        """Waits until so many versions of the file are stored."""
        return self.wait(
            f"{path} is stored", lambda line: line["event"] == "stored" and line["path"] == str(path), times
        )

    def until(self, what, done, patience=PATIENCE):
        """Waits for what no line of the log tells of."""
        deadline = time.monotonic() + patience
        while not done():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {patience} s: {what}")
            time.sleep(0.02)

    def stop(self):
        """Ends the service as an operator does."""
        self.service.send_signal(signal.SIGTERM)
        code = self.service.wait(PATIENCE)
        assert code == 0, f"the service ended with {code}"

    def ask(self, *arguments):
        """What a command prints."""
        quiet = self.environment() | {"UPSPOOL__LOG__LEVEL": "warn"}
        command = self.command(*arguments)
        return subprocess.run(command, env=quiet, check=True, stdout=subprocess.PIPE, text=True).stdout

    def rows(self):
        """All jobs, oldest first."""
        rows = [json.loads(line) for line in self.ask("list", "--json", "--limit", "1000000").splitlines()]
        return sorted(rows, key=lambda row: row["id"])

    def live(self):
        return json.loads(self.ask("status", "--json"))["live"]

    def control(self, name):
        """The emulator's own record."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.base.removesuffix('/v1')}/_emulator/{name}") as answer:
            return json.load(answer)
