"""Real programs write into a watched folder; each file that they finished has to become one File of just its bytes.

    check.py TARGET [WORD]...    TARGET holds upspool and upspool-emulator; with words only cases of such names.

Everything is as it is by default, the quiet time too. The programs run beside each other.
"""

import concurrent.futures
import contextlib
import sys
import time
import traceback

import servers
import writers
from case import PAUSE, Case
from judge import judge, self_test
from room import Room
from tracing import Tracer


def write_all(cases):
    """Runs all of them at once. What went wrong with the programs themselves."""
    faults = []
    with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
        running = {pool.submit(writers.CASES[it.name], it): it for it in cases}
        for done in concurrent.futures.as_completed(running):
            try:
                done.result()
            except Exception:
                faults.append(f"{running[done].name}: {traceback.format_exc()}")
    return faults


def tell(cases, room, tracer):
    """What each program did, and when its files were stored after that."""
    stored = [line for line in room.lines if line["event"] == "stored"]
    for it in cases:
        delays = []
        for line in stored:
            path = line["path"].removeprefix(f"{it.drop}/")
            last = tracer.last(it.name, path, line["heard"]) if path != line["path"] else None
            if last is not None:
                delays.append(line["heard"] - last)
        # Of files in a directory that was moved in, or written through another name, the tracer hears nothing.
        after = f", stored {min(delays):.1f} to {max(delays):.1f} s after the last change" if delays else ""
        print(f"{it.name}: {len(it.expected)} versions{after}\n    {tracer.story(it.name)}")


def main(target, words):
    self_test()
    names = [name for name in writers.CASES if not words or any(word in name for word in words)]
    with Room(target) as room, contextlib.ExitStack() as stack:
        room.start()
        places = {name: room.dir / name for name in ("ssh", "samba", "ftp", "browser")}
        running = {
            "web": stack.enter_context(servers.web(PAUSE)),
            "ssh": stack.enter_context(servers.sshd(places["ssh"])),
            "samba": stack.enter_context(servers.samba(places["samba"], room.drop)),
            "ftp": stack.enter_context(servers.ftp(places["ftp"], room.drop)),
            "browser": stack.enter_context(servers.browser(places["browser"])),
        }
        tracer = Tracer()
        cases = [Case(name, room, running) for name in names]
        for it in cases:
            tracer.watch(it.name, it.drop)
        began = time.monotonic()
        faults = write_all(cases)
        wrote = time.monotonic() - began
        expected = [version for it in cases for version in it.expected]
        if not faults:
            # What is missing after that is for the judge to say.
            with contextlib.suppress(AssertionError):
                room.wait("all are stored", lambda line: line["event"] == "stored", len(expected))
        if room.live()["changing_count"]:
            faults.append(f"still taken for changing: {room.live()['changing']}")
        room.stop()
        # Whatever was left out or would be sent twice shows now: this run takes all that lies there.
        asked = len(room.control("requests")["requests"])
        printed = room.ask("run", "--once", "--timeout", "60s")
        if printed or len(room.control("requests")["requests"]) != asked:
            faults.append(f"a second run had something left to do: {printed}")
        faults += judge(expected, room.rows(), room.control("files")["files"], room.control("uploads")["uploads"])
        faults += [f"the log says: {line}" for line in room.lines if line.get("level") in ("WARN", "ERROR")]
        tell(cases, room, tracer)
    if faults:
        sys.exit("\n".join(["", f"{len(faults)} faults:", *faults]))
    print(f"{len(cases)} programs wrote {len(expected)} versions in {wrote:.0f} s: each is one File of its bytes")


main(sys.argv[1], sys.argv[2:])
