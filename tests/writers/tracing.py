"""What programs do to a folder, as the kernel tells it (inotify(7))."""

import ctypes
import os
import pathlib
import struct
import threading
import time

MODIFY, ATTRIB, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x2, 0x4, 0x8, 0x40, 0x80, 0x100, 0x200
WORDS = {MODIFY: "write", ATTRIB: "attributes", CLOSE_WRITE: "close", CREATE: "create", DELETE: "delete"}
IS_DIRECTORY = 0x4000_0000
MASK = MODIFY | ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE


class Tracer:
    """Hears of all that is done below the directories that it is told of."""

    def __init__(self):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_CLOEXEC)
        assert self.fd >= 0, os.strerror(ctypes.get_errno())
        self.places = {}
        self.lock = threading.Lock()
        # (when, case, path below the case, what, cookie of a rename)
        self.events = []
        threading.Thread(target=self._read, daemon=True).start()

    def watch(self, case, directory, below=""):
        number = self.libc.inotify_add_watch(self.fd, os.fsencode(directory), MASK)
        if number >= 0:  # Else it is gone already.
            with self.lock:
                self.places[number] = (case, directory, below)

    def _read(self):
        while True:
            buffer = os.read(self.fd, 65536)
            now, offset = time.monotonic(), 0
            while offset < len(buffer):
                number, mask, cookie, length = struct.unpack_from("iIII", buffer, offset)
                name = os.fsdecode(buffer[offset + 16 : offset + 16 + length].rstrip(b"\0"))
                offset += 16 + length
                with self.lock:
                    place = self.places.get(number)
                if not place or not name:
                    continue
                case, directory, below = place
                path = f"{below}{name}"
                if mask & IS_DIRECTORY:
                    if mask & (CREATE | MOVED_TO):
                        # Files that come before this are not heard of: for the story only, nothing hangs on it.
                        self.watch(case, pathlib.Path(directory) / name, f"{path}/")
                    path += "/"
                with self.lock:
                    self.events.append((now, case, path, mask & MASK, cookie))

    def of(self, case):
        with self.lock:
            return [event for event in self.events if event[1] == case]

    def last(self, case, path, before):
        """When the file was last touched before then."""
        times = [when for when, _, name, _, _ in self.of(case) if name == path and when <= before]
        return max(times, default=None)

    def story(self, case, most=14):
        """In one line."""
        steps, moved = [], {}
        for _, _, path, what, cookie in self.of(case):
            if what == MOVED_FROM:
                moved[cookie] = len(steps)
                steps.append([f"{path} moved away", 1])
            elif what == MOVED_TO and cookie in moved:
                steps[moved[cookie]][0] = f"{steps[moved[cookie]][0].removesuffix(' moved away')} renamed to {path}"
            else:
                step = f"{path} moved in" if what == MOVED_TO else f"{WORDS.get(what, hex(what))} {path}"
                if steps and steps[-1][0] == step:
                    steps[-1][1] += 1
                else:
                    steps.append([step, 1])
        words = [step if times == 1 else f"{step} ×{times}" for step, times in steps]
        if len(words) > most:
            words[most - 2 : -2] = [f"… {len(words) - most} more …"]
        return ", ".join(words)
