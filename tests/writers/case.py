"""What all writers need: a place in the folder, content, and programs to run."""

import hashlib
import os
import random
import subprocess
import time

# In the middle of a file, for so many seconds: more than the quiet time of 2 s and the look that follows.
PAUSE = 3.5


def noise(bytes_, seed):
    return random.Random(seed).randbytes(bytes_)


class Case:
    """One program, with a directory of the watched folder and one beside it."""

    def __init__(self, name, room, servers):
        self.name, self.room, self.servers = name, room, servers
        self.place = name.replace(": ", "-").replace(" ", "-")
        self.drop = room.drop / self.place
        self.drop.mkdir()
        self.aside = room.dir / "aside" / self.place
        self.aside.mkdir(parents=True)
        self.said = room.dir / "aside" / f"{self.place}.log"
        # Versions in the order in which they have to be stored: (path below the folder, SHA-256, bytes).
        self.expected = []
        self.made = 0

    def content(self, bytes_):
        """Bytes that no other case has."""
        self.made += 1
        return noise(bytes_, f"{self.name} {self.made}")

    def expect(self, name, content):
        """Says that the file has to become a File of just these bytes."""
        self.expected.append((f"{self.place}/{name}", hashlib.sha256(content).hexdigest(), len(content)))

    def source(self, name, bytes_=3_000):
        """A file beside the folder, which is to come into the folder under its name."""
        path, content = self.aside / name, self.content(bytes_)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.expect(name, content)
        return path

    def stored(self, name):
        """Waits until all versions of the file that are expected so far are stored."""
        path = f"{self.place}/{name}"
        times = sum(1 for expected, _, _ in self.expected if expected == path)
        self.room.wait_stored(self.room.drop / path, times)

    def begin(self, *command, stdin=subprocess.DEVNULL):
        """Starts a program."""
        environment = {"HOME": str(self.room.dir), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        with self.said.open("wb") as said:
            words = [os.fspath(word) for word in command]
            return subprocess.Popen(words, stdin=stdin, stdout=said, stderr=said, cwd=self.aside, env=environment)

    def end(self, process, code=0):
        """Waits for its end."""
        said = f"{self.name}: {process.args} ended with {process.wait()}: {self.said.read_text()[-1000:]}"
        assert process.returncode == code, said

    def run(self, *command):
        self.end(self.begin(*command))

    def fed(self, *command, content):
        """Runs a program that reads half of the content, waits for the rest, and reads the rest."""
        process = self.begin(*command, stdin=subprocess.PIPE)
        process.stdin.write(content[: len(content) // 2])
        process.stdin.flush()
        time.sleep(PAUSE)
        process.stdin.write(content[len(content) // 2 :])
        process.stdin.close()
        self.end(process)

    def halted(self, *command, at):
        """Runs a program that takes its input from files alone, and halts it after its nth write."""
        # In microseconds.
        halt = f"inject=write:delay_exit={int(PAUSE * 1e6)}:when={at}"
        self.run("strace", "-qq", "-o", "/dev/null", "-e", "trace=write", "-e", halt, *command)
