"""The programs that write. Each says what has to become a File; how it writes is its own affair."""

import io
import mmap
import os
import pathlib
import signal
import subprocess
import tarfile
import tempfile
import time
import zipfile

from case import PAUSE

KIB, MIB = 1024, 1024 * 1024
CASES = {}


def writer(function):
    """Enters a program under the name of its function."""
    CASES[function.__name__.replace("__", ": ").replace("_", " ")] = function
    return function


@writer
def shell__redirection(it):
    it.run("sh", "-c", 'cat "$0" >"$1"', it.source("small.txt"), it.drop / "small.txt")
    halves = [it.content(200 * KIB), it.content(300 * KIB)]
    for number, half in enumerate(halves):
        (it.aside / str(number)).write_bytes(half)
    it.expect("slow.txt", b"".join(halves))
    it.run("sh", "-c", f'{{ cat 0; sleep {PAUSE}; cat 1; }} >"$0"', it.drop / "slow.txt")


@writer
def shell__append(it):
    # Closed after each piece: only the quiet time holds it together, so the pieces have to come more often.
    for name, pieces in (("small.log", 2), ("slow.log", 10)):
        content = [it.content(1_000) for _ in range(pieces)]
        it.expect(name, b"".join(content))
        for number, piece in enumerate(content):
            (it.aside / str(number)).write_bytes(piece)
        append = f'for n in $(seq 0 {pieces - 1}); do cat $n >>"$0"; sleep 0.4; done'
        it.run("sh", "-c", append, it.drop / name)


@writer
def dd(it):
    it.run("dd", f"if={it.source('small.bin')}", f"of={it.drop / 'small.bin'}", "status=none")
    content = it.content(MIB)
    it.expect("slow.bin", content)
    it.fed("dd", "bs=64k", "iflag=fullblock", f"of={it.drop / 'slow.bin'}", "status=none", content=content)
    # In pieces by one process each, from the end to the beginning, so that its size is the whole one from the first.
    source = it.source("pieces.bin", 320 * KIB)
    piece = 'dd "if=$0" "of=$1" bs=64k count=1 skip=$n seek=$n conv=notrunc status=none'
    it.run("sh", "-c", f"for n in 4 3 2 1 0; do {piece}; sleep 0.4; done", source, it.drop / "pieces.bin")


@writer
def cp(it):
    it.run("cp", it.source("small.bin"), it.drop)
    content = it.content(MIB)
    it.expect("slow.bin", content)
    it.fed("cp", "/dev/stdin", it.drop / "slow.bin", content=content)
    it.run("cp", it.source("large.bin", 16 * MIB), it.drop)


@writer
def cp_a_tree(it):
    for number in range(30):
        path = it.source(f"tree/{number % 3}/{number % 5}/{number}.bin", 500 + number)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    it.run("cp", "-a", it.aside / "tree", it.drop)


@writer
def mv__same_file_system(it):
    it.run("mv", it.source("small.bin"), it.drop)
    it.run("mv", it.source("large.bin", 20 * MIB), it.drop)
    for name in ("tree/a/1.bin", "tree/2.bin"):
        it.source(name)
    it.run("mv", it.aside / "tree", it.drop)


@writer
def mv__while_it_is_written(it):
    for name, bytes_ in (("small.bin", 2_000), ("slow.bin", MIB)):
        content = it.content(bytes_)
        it.expect(name, content)
        with (it.aside / name).open("wb") as file:
            file.write(content[:1_000])
            file.flush()
            it.run("mv", it.aside / name, it.drop)
            time.sleep(PAUSE)
            file.write(content[1_000:])


@writer
def mv__other_file_system(it):
    with tempfile.TemporaryDirectory(prefix="upspool-", dir="/dev/shm") as elsewhere:
        other = pathlib.Path(elsewhere)
        assert other.stat().st_dev != it.drop.stat().st_dev, "/dev/shm is no other file system"
        for name, bytes_ in (("small.bin", 2_000), ("large.bin", 16 * MIB)):
            content = it.content(bytes_)
            (other / name).write_bytes(content)
            it.expect(name, content)
        it.run("mv", other / "small.bin", it.drop)
        it.halted("mv", other / "large.bin", it.drop, at=5)


@writer
def install(it):
    it.run("install", "-m", "640", it.source("small.bin"), it.drop / "small.bin")
    content = it.content(MIB)
    it.expect("slow.bin", content)
    it.fed("install", "-m", "640", "/dev/stdin", it.drop / "slow.bin", content=content)


@writer
def ln(it):
    it.run("ln", it.source("small.bin"), it.drop / "small.bin")
    # A symbolic link is no file of the folder.
    (it.aside / "linked.bin").write_bytes(it.content(100))
    it.run("ln", "-s", it.aside / "linked.bin", it.drop / "symbolic.bin")
    content = it.content(MIB)
    it.expect("slow.bin", content)
    with (it.aside / "slow.bin").open("wb") as file:
        file.write(content[:1_000])
        file.flush()
        it.run("ln", it.aside / "slow.bin", it.drop / "slow.bin")
        time.sleep(PAUSE)
        file.write(content[1_000:])


def rsync(it, *options):
    it.run("rsync", *options, it.source("small.bin"), f"{it.drop}/")
    it.run("rsync", *options, "--bwlimit=400", it.source("slow.bin", 2 * MIB), f"{it.drop}/")


@writer
def rsync__plain(it):
    rsync(it)


@writer
def rsync__a(it):
    rsync(it, "-a")


@writer
def rsync__inplace(it):
    rsync(it, "--inplace")
    # Over a file that is there: the same inode, some blocks after others.
    it.stored("slow.bin")
    changed = it.content(2 * MIB)
    (it.aside / "slow.bin").write_bytes(changed)
    it.expect("slow.bin", changed)
    it.run("rsync", "--inplace", "--ignore-times", "--bwlimit=400", it.aside / "slow.bin", f"{it.drop}/")


@writer
def rsync__partial_dir(it):
    rsync(it, "--partial-dir=.rsync-partial")
    # Broken off in the middle, and gone on with.
    source = it.source("broken.bin", 2 * MIB)
    command = ["rsync", "--partial-dir=.rsync-partial", source, f"{it.drop}/"]
    broken = it.begin(*command, "--bwlimit=400")
    it.room.until("rsync writes", lambda: any(path.stat().st_size for path in it.drop.glob(".broken.bin.*")))
    broken.send_signal(signal.SIGINT)
    it.end(broken, code=20)
    # Its other process puts it there, when this one has ended.
    it.room.until("rsync keeps what it has", (it.drop / ".rsync-partial" / "broken.bin").exists)
    time.sleep(PAUSE)
    it.run(*command)


@writer
def rsync__delay_updates(it):
    for name, bytes_ in (("small.bin", 2_000), ("slow.bin", 2 * MIB), ("last.bin", 2_000)):
        it.source(f"tree/{name}", bytes_)
    it.run("rsync", "-r", "--delay-updates", "--bwlimit=400", f"{it.aside}/tree", it.drop)


def download(it, slow):
    root, contents = it.servers["web"]
    name = "slow.bin" if slow else "small.bin"
    path = f"/{'slow' if slow else 'quick'}/{it.place}/{name}"
    contents[path] = it.content(2 * MIB if slow else 2_000)
    it.expect(name, contents[path])
    return root + path


@writer
def curl(it):
    it.run("curl", "-sSf", "--noproxy", "*", "-o", it.drop / "small.bin", download(it, slow=False))
    slow = download(it, slow=True)
    it.run("curl", "-sSf", "--noproxy", "*", "--limit-rate", "600K", "-o", it.drop / "slow.bin", slow)


@writer
def wget(it):
    it.run("wget", "-q", "--no-proxy", "-P", it.drop, download(it, slow=False))
    it.run("wget", "-q", "--no-proxy", "--limit-rate=600k", "-P", it.drop, download(it, slow=True))


@writer
def chromium(it):
    for name, slow in (("small.bin", False), ("slow.bin", True)):
        it.servers["browser"].download(download(it, slow), it.drop)
        # The driver does not say when a download has ended; the service does.
        it.stored(name)


def vim(it, name, *commands, pause):
    words = [word for command in (*commands, f"call system('sleep {pause}')", "wq") for word in ("-c", command)]
    it.run("vim", "-es", "-i", "NONE", *words, it.drop / name)


@writer
def vim__new_file(it):
    for name, pause in (("small.txt", 0), ("slow.txt", PAUSE)):
        it.expect(name, f"{it.name} {pause}\n".encode())
        vim(it, name, f"call setline(1, '{it.name} {pause}')", pause=pause)


def vim_over(it, setting):
    for name, pause in (("small.txt", 0), ("slow.txt", PAUSE)):
        lines = f"{it.name} {pause}\n" * 2_000
        (it.aside / name).write_text(lines)
        it.expect(name, lines.encode())
        it.run("mv", it.aside / name, it.drop)
        it.stored(name)
        it.expect(name, f"{lines}changed\n".encode())
        vim(it, name, f"set {setting}", "$put ='changed'", pause=pause)


@writer
def vim__over_a_file(it):
    vim_over(it, "backupcopy=auto")


@writer
def vim__with_a_backup(it):
    vim_over(it, "backup")


@writer
def vim__in_place(it):
    vim_over(it, "backupcopy=yes")


@writer
def sed_i(it):
    for name, script in (("small.txt", "s/before/after/"), ("slow.txt", f"1e sleep {PAUSE}\ns/before/after/")):
        lines = f"{it.name} {name} before\n" * 2_000
        (it.aside / name).write_text(lines)
        it.expect(name, lines.encode())
        it.run("mv", it.aside / name, it.drop)
        it.stored(name)
        it.expect(name, lines.replace("before", "after").encode())
        it.run("sed", "-i", script, it.drop / name)


@writer
def tar_x(it):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, bytes_ in (("tree/small.bin", 2_000), ("tree/slow.bin", 2 * MIB), ("tree/last.bin", 100)):
            content = it.content(bytes_)
            it.expect(name, content)
            member = tarfile.TarInfo(name)
            member.size, member.mtime = bytes_, 1_000_000_000
            tar.addfile(member, io.BytesIO(content))
    it.fed("tar", "-x", "-C", it.drop, content=archive.getvalue())


@writer
def unzip(it):
    archive = it.aside / "archive.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name, bytes_ in (("small.bin", 2_000), ("large.bin", 8 * MIB)):
            # Digits, so that there is something to unpack.
            content = it.content(bytes_ // 2).hex().encode()
            packed.writestr(name, content)
            it.expect(name, content)
    it.halted("unzip", "-q", archive, "-d", it.drop, at=9)


@writer
def git(it):
    origin, clone = it.aside / "origin", it.drop / "clone"
    settings = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "core.autocrlf=false"]
    settings += ["-c", f"filter.slow.smudge=sleep {PAUSE}; cat"]

    def run(*commands, at=origin):
        for command in commands:
            it.run("git", *settings, "-C", at, *command.split())

    def write(name, content):
        (origin / name).parent.mkdir(exist_ok=True)
        (origin / name).write_bytes(content)
        it.expect(f"clone/{name}", content)

    origin.mkdir()
    run("init -q -b main")
    for name in ("small.txt", "sub/small.txt"):
        write(name, it.content(500).hex().encode())
    run("add .", "commit -qm one")
    it.run("git", *settings, "clone", "-q", origin, clone)
    for name in ("small.txt", "sub/small.txt"):
        it.stored(f"clone/{name}")
    # Another branch: one file changes, one comes through a filter that takes its time, one goes.
    run("checkout -qb other", "rm -q sub/small.txt")
    write("small.txt", it.content(700).hex().encode())
    write("slow.bin", it.content(MIB))
    (origin / ".gitattributes").write_text("*.bin filter=slow\n")
    run("add .", "commit -qm two")
    run("fetch -q", "checkout -q other", at=clone)


@writer
def scp(it):
    options = it.servers["ssh"]
    it.run("scp", *options, it.source("small.bin"), f"127.0.0.1:{it.drop}/")
    # In kbit/s.
    it.run("scp", "-p", "-l", "4000", *options, it.source("slow.bin", 2 * MIB), f"127.0.0.1:{it.drop}/")


@writer
def sftp(it):
    def batch(*commands, options=()):
        (it.aside / "batch").write_text("\n".join(commands))
        it.run("sftp", *options, *it.servers["ssh"], "-b", it.aside / "batch", "127.0.0.1")

    batch(f"put {it.source('small.bin')} {it.drop}/")
    batch(f"put {it.source('slow.bin', 2 * MIB)} {it.drop}/", options=["-l", "4000"])
    # As WinSCP and others do: another name at first.
    source = it.source("renamed.bin", 2 * MIB)
    first, then = it.drop / "renamed.bin.filepart", it.drop / "renamed.bin"
    batch(f"put {source} {first}", f"rename {first} {then}", options=["-l", "4000"])


@writer
def samba(it):
    def client(*commands):
        it.run(*it.servers["samba"], "-D", it.place, "-c", "; ".join(commands))

    client(f"put {it.source('small.bin')} small.bin")
    content = it.content(MIB)
    it.expect("slow.bin", content)
    it.fed(*it.servers["samba"], "-D", it.place, "-c", "put - slow.bin", content=content)
    client(f"put {it.source('renamed.bin', MIB)} scan0001.tmp", "rename scan0001.tmp renamed.bin")
    # Over a file that is there, as a scanner does that begins its numbers anew.
    client(f"put {it.source('again.bin')} again.bin")
    it.stored("again.bin")
    client(f"put {it.source('again.bin', MIB)} again.bin")


@writer
def ftp(it):
    root = it.servers["ftp"]
    it.drop.chmod(0o777)
    it.run("curl", "-sSf", "--noproxy", "*", "-T", it.source("small.bin"), f"{root}/{it.place}/")
    slow = it.source("slow.bin", 2 * MIB)
    it.run("curl", "-sSf", "--noproxy", "*", "--limit-rate", "400K", "-T", slow, f"{root}/{it.place}/")


@writer
def program__temporary_file_and_rename(it):
    for name, pause in (("small.bin", 0), ("slow.bin", PAUSE)):
        content = it.content(MIB)
        it.expect(name, content)
        with tempfile.NamedTemporaryFile(dir=it.drop, delete=False) as temporary:
            temporary.write(content[:1_000])
            temporary.flush()
            time.sleep(pause)
            temporary.write(content[1_000:])
        os.replace(temporary.name, it.drop / name)


@writer
def program__space_reserved_first(it):
    for name, pause in (("small.bin", 0), ("slow.bin", PAUSE)):
        content = it.content(MIB)
        it.expect(name, content)
        with (it.drop / name).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, len(content))
            file.write(content[:1_000])
            file.flush()
            time.sleep(pause)
            file.write(content[1_000:])


@writer
def program__mapping(it):
    for name, pause in (("small.bin", 0), ("slow.bin", PAUSE)):
        content = it.content(256 * KIB)
        it.expect(name, content)
        with (it.drop / name).open("w+b") as file:
            file.truncate(len(content))
            mapping = mmap.mmap(file.fileno(), len(content))
        # The file is closed; what holds it now is the mapping alone.
        mapping[:1_000] = content[:1_000]
        time.sleep(pause)
        mapping[1_000:] = content[1_000:]
        mapping.close()
