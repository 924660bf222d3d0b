"""The kernel's limits of inotify, met by the real service: nothing is missed, and it is said what would help.

    limits.py TARGET    TARGET holds upspool and upspool-emulator. Needs root.
"""

import contextlib
import hashlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from judge import judge, self_test
from room import Room

QUEUE = pathlib.Path("/proc/sys/fs/inotify/max_queued_events")


@contextlib.contextmanager
def setting(path, value):
    """Sets one of the kernel's numbers, and puts it back whatever happens."""
    before = path.read_text()
    try:
        path.write_text(f"{value}\n")
        yield
    finally:
        path.write_text(before)


@contextlib.contextmanager
def asleep(room):
    """The service does nothing meanwhile."""
    room.service.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        room.service.send_signal(signal.SIGCONT)


def make(room, name, expected):
    """A file that nobody else has."""
    content = random.Random(name).randbytes(200)
    path = room.drop / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    expected.append(name)


def is_whole(room, expected):
    """All of them are Files of their bytes, and nothing else is."""
    versions = []
    for name in expected:
        content = (room.drop / name).read_bytes()
        versions.append((name, hashlib.sha256(content).hexdigest(), len(content)))
    room.stop()
    printed = room.ask("run", "--once", "--timeout", "60s")
    assert printed == "", f"a second run had something left to do: {printed}"
    faults = judge(versions, room.rows(), room.control("files")["files"], room.control("uploads")["uploads"])
    assert not faults, "\n".join(faults)


def state(word):
    return lambda line: line["event"] == "folder-state" and line["state"] == word


def queue_overflows(target):
    """The kernel's queue is full while the service sleeps: what it did not tell of is found all the same."""
    expected = []
    with Room(target) as room:
        # A queue keeps the limit that was in force when it was made.
        with setting(QUEUE, 16):
            room.start()
            room.wait("it is watched by events", state("events"))
        # The first scan is over as well, so that nothing is found by it; and the directories are watched by then, or what
        # comes into them would be no event.
        for number in range(7):
            make(room, f"{number}/first", expected)
        for name in expected:
            room.wait_stored(room.drop / name)
        scanned = room.live()["folders"][0]["last_scan"]
        with asleep(room):
            for number in range(1_000):
                make(room, f"{number % 7}/{number}", expected)
        began = time.monotonic()
        room.wait("all are stored", lambda line: line["event"] == "stored", len(expected))
        took = time.monotonic() - began
        # Else nothing was lost, and nothing is shown.
        room.until("a scan", lambda: room.live()["folders"][0]["last_scan"] != scanned)
        is_whole(room, expected)
    # The next scan by the clock is after ten minutes.
    print(f"a queue of 16 events and {len(expected)} files at once: all are Files after {took:.0f} s")


def watches_run_out(target):
    """There are fewer watches than directories: it says so and polls, and hears again when there are enough."""
    expected, limit = [], 10
    with Room(target, folder_settings='poll_interval = "1s"') as room:
        # In a user namespace, so that the programs of this machine keep theirs.
        script = f'echo {limit} >/proc/sys/user/max_inotify_watches && exec "$0" "$@"'
        room.start(wrapper=["unshare", "--user", "--map-root-user", "sh", "-c", script])
        room.wait("it is watched by events", state("events"))
        make(room, "first", expected)
        room.wait_stored(room.drop / "first")
        # All of them before it looks, so that it has all of them to count.
        with asleep(room):
            for number in range(20):
                make(room, f"{number}/file", expected)
        said = room.wait("it is polled", state("degraded"))
        for word in (
            "this folder needs 21,",
            f"user.max_inotify_watches is {limit} ",
            "sysctl -w user.max_inotify_watches=",
        ):
            assert word in said["message"], f"{word!r} is not in {said['message']!r}"
        assert said["level"] == "WARN", said
        room.wait("all are stored", lambda line: line["event"] == "stored", len(expected))
        # It goes on, in a directory that has no watch.
        make(room, "19/by-polling", expected)
        room.wait_stored(room.drop / "19/by-polling")
        # What it named as the remedy is enough.
        heard = len(room.lines)
        enough = said["message"].rpartition("=")[2].split()[0]
        subprocess.run(
            ["nsenter", "--user", f"--target={room.service.pid}", "--preserve-credentials", "sh", "-c",
             f"echo {enough} >/proc/sys/user/max_inotify_watches"],
            check=True,
        )  # fmt: skip
        began = time.monotonic()
        room.wait("it is watched by events again", state("events"), since=heard)
        took = time.monotonic() - began
        make(room, "19/by-events", expected)
        room.wait_stored(room.drop / "19/by-events")
        is_whole(room, expected)
    print(f"{limit} watches for 21 directories: polled; by events again {took:.0f} s after it was raised to {enough}:")
    print(f"    {said['message']}")


def main(target):
    assert os.geteuid() == 0, "the kernel's limits are root's: sudo it"
    self_test()
    queue_overflows(target)
    watches_run_out(target)


main(sys.argv[1])
