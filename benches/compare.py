"""See compare.sh."""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time

from common import KEY, MIB, Bench, Peak, machine, parser_of_server, say, started

HERE = pathlib.Path(__file__).parent


class Peers(Bench):
    """What a user would use instead, by hand."""

    def create(self, name, total):
        new = {"filename": name, "purpose": "batch", "bytes": total, "mime_type": "text/jsonl"}
        return self.server.ask("/v1/uploads", new)["id"]

    def sendfile(self, files):
        """The same bytes by raw sockets: eight connections, the kernel copies. Nothing that speaks HTTP can be faster.
        `files`: each with its Parts."""
        self.server.reset()
        server_cpu, before = self.server.cpu(), os.times()
        host, _, port = self.server.base.removeprefix("http://").removesuffix("/v1").rpartition(":")
        head = b'--x\r\nContent-Disposition: form-data; name="data"; filename="part"\r\nContent-Type: application/octet-stream\r\n\r\n'
        tail, ids = b"\r\n--x--\r\n", {}
        uploads = {file: self.create(file.name, file.stat().st_size) for file in files}
        left = [(file, at, length) for file, parts in files.items() for at, length in parts]

        def work():
            with socket.create_connection((host, int(port))) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while left:
                    try:
                        file, at, length = left.pop(0)
                    except IndexError:
                        return
                    connection.sendall(
                        f"POST /v1/uploads/{uploads[file]}/parts HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n"
                        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(head) + length + len(tail)}\r\n\r\n".encode()
                        + head
                    )
                    end, start = at + length, at
                    with open(file, "rb") as source:
                        while start < end:
                            start += os.sendfile(connection.fileno(), source.fileno(), start, end - start)
                    connection.sendall(tail)
                    answer = b""
                    while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
                        more = connection.recv(65536)
                        assert more, answer
                        answer += more
                    ids[file, at] = json.loads(answer.partition(b"\r\n\r\n")[2])["id"]

        threads = [threading.Thread(target=work) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        after = os.times()
        for file, parts in files.items():
            self.server.ask(f"/v1/uploads/{uploads[file]}/complete", {"part_ids": [ids[file, at] for at, _ in parts]})
        total = sum(file.stat().st_size for file in files)
        cpu = after.user + after.system - before.user - before.system
        return self.result(len(files), total, cpu, 0, server_cpu)

    def curl(self, file, parts, pieces, base=None, more=""):
        """curl with eight transfers at once, each Part a file of its own, which costs it nothing here. `more` goes into its
        configuration for each."""
        self.server.reset()
        server_cpu, total = self.server.cpu(), file.stat().st_size
        upload = self.create(file.name, total)
        out, script = self.scratch / "answers", self.scratch / "curl"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        lines = []
        for index in range(len(parts)):
            lines.append(
                f'url = "{base or self.server.base}/uploads/{upload}/parts"\nheader = "Authorization: Bearer {KEY}"\nheader = "Expect:"\n'
                f'noproxy = "*"\nform = "data=@{pieces[index]};filename=part;type=application/octet-stream"\noutput = "{out / str(index)}"\n{more}'
            )
        script.write_text("next\n".join(lines))
        command = [*self.options.run_with, "curl", "-sS", "--no-progress-meter", "--fail", "-Z", "--parallel-max", "8", "-K", script]
        process = subprocess.Popen(command)
        peak = Peak(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"curl ended with {process.returncode}")
        ids = [json.loads((out / str(index)).read_text())["id"] for index in range(len(parts))]
        self.server.ask(f"/v1/uploads/{upload}/complete", {"part_ids": ids})
        return self.result(1, total, usage.ru_utime + usage.ru_stime, peak.mib(), server_cpu)


def cut(total, count):
    """As upspool cuts it: ranges that differ by a byte at most."""
    each, over = divmod(total, count)
    starts = [index * each + min(index, over) for index in range(count + 1)]
    return [(start, end - start) for start, end in zip(starts, starts[1:])]


def md5(file):
    began, cpu, digest = time.monotonic(), os.times(), hashlib.md5()
    with open(file, "rb") as source:
        while chunk := source.read(MIB):
            digest.update(chunk)
    after = os.times()
    return {
        "seconds": time.monotonic() - began,
        "cpu": after.user + after.system - cpu.user - cpu.system,
        "memory": 0,
        "server": 0,
    }


def read(*files):
    """Has the page cache hold them: upspool gives back what it has sent."""
    for file in files:
        subprocess.run(["cat", file], stdout=subprocess.DEVNULL, check=True)


def rounds_of(number, contenders, files=()):
    """Round by round rather than one after the other, so that a busy minute of the machine hits all alike. Medians. `files`
    are in the page cache each time."""
    results = {name: [] for name in contenders}
    for one in range(1, number + 1):
        for name, measure in contenders.items():
            read(*files)
            results[name].append(measure())
            say(f"round {one}: {name}: {results[name][-1]['seconds']:.2f} s")
    return {
        name: {field: statistics.median(run[field] for run in runs) for field in runs[0]}
        for name, runs in results.items()
    }


def table(title, results, unit, work, ours):
    print(f"\n{title}\n")
    print(f"| {'':34} | {'seconds':>8} | {unit:>9} | {'CPU s':>6} | {'peak MiB':>8} | {'server CPU s':>12} | {ours + ' is':>16} |")
    print(f"| {'-' * 34} | {'-' * 7}: | {'-' * 8}: | {'-' * 5}: | {'-' * 7}: | {'-' * 11}: | {'-' * 15}: |")
    for name, one in results.items():
        ratio = "" if name == ours else f"{one['seconds'] / results[ours]['seconds']:.2f} times as fast"
        memory = f"{one['memory']:8.0f}" if one["memory"] else " " * 8
        print(
            f"| {name:34} | {one['seconds']:8.2f} | {work / one['seconds']:9.0f} | {one['cpu']:6.2f} | {memory} "
            f"| {one['server']:12.2f} | {ratio} |",
            flush=True,
        )


def large_file(bench, total):
    """A file alone in its folder, its Parts, and each Part as a file besides."""
    folder, pieces = bench.scratch / "large", bench.scratch / "pieces"
    folder.mkdir()
    pieces.mkdir()
    file = folder / "large.bin"
    count = max(8, -(-total // 64_000_000))
    count = -(-count // 8) * 8
    parts = cut(total, count)
    with open(file, "wb") as out:
        for index, (_, length) in enumerate(parts):
            with open(pieces / str(index), "wb") as piece:
                while length > 0:
                    some = os.urandom(min(length, MIB))
                    out.write(some)
                    piece.write(some)
                    length -= len(some)
    paths = [pieces / str(index) for index in range(count)]
    return folder, file, parts, paths


def large(bench, options):
    total = (64 if options.quick else options.large) * MIB
    folder, file, parts, paths = large_file(bench, total)
    contenders = {
        "upspool": lambda: bench.run(bench.upspool(folder), 1, total),
        "upspool, checksum": lambda: bench.run(bench.upspool(folder, "checksum = true"), 1, total),
        "curl, 8 transfers": lambda: bench.curl(file, parts, paths),
        "async-openai, 8 Parts in memory": lambda: bench.run(
            [options.binaries / "peer", "large", file, parts[0][1], 8], 1, total
        ),
        "openai-python, upload_file_chunked": lambda: bench.run([options.python, HERE / "sdk_helper.py", file], 1, total),
        "MD5, one thread of OpenSSL's": lambda: md5(file),
    }
    if not options.run_with:
        contenders["raw sockets, 8 × sendfile"] = lambda: bench.sendfile({file: parts})
    results = rounds_of(options.rounds, contenders, [file, *paths])
    title = f"One file of {total / MIB:.0f} MiB, {len(parts)} Parts, 8 at once; medians of {options.rounds}"
    table(title, results, "MB/s", total / 1e6, "upspool")
    checked, digest = results["upspool, checksum"]["seconds"], results["MD5, one thread of OpenSSL's"]["seconds"]
    print(f"\nWith checksum it takes {checked / digest:.2f} times as long as one thread's MD5 of the same file.")
    shutil.rmtree(folder)
    shutil.rmtree(paths[0].parent)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextlib.contextmanager
def tls_before(server, scratch):
    """haproxy, which takes TLS off what goes to the server. Its base, and the certificate of who vouches for it."""
    port, file = free_port(), lambda name: scratch / f"tls-{name}"
    openssl = lambda *words: subprocess.run(["openssl", *map(str, words)], check=True, stderr=subprocess.DEVNULL)
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(*new, "-x509", "-subj", "/CN=bench", "-out", file("ca"), "-keyout", file("ca-key"))
    openssl(*new, "-subj", "/CN=127.0.0.1", "-out", file("request"), "-keyout", file("key"))
    file("names").write_text("subjectAltName=IP:127.0.0.1\n")
    authority = ["-CA", file("ca"), "-CAkey", file("ca-key"), "-CAcreateserial"]
    openssl("x509", "-req", "-in", file("request"), *authority, "-extfile", file("names"), "-out", file("leaf"))
    both, configuration = file("both"), file("haproxy")
    both.write_text(file("leaf").read_text() + file("key").read_text())
    configuration.write_text(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\nlisten tls\n"
        f" bind 127.0.0.1:{port} ssl crt {both}\n server it {server.base.removeprefix('http://').removesuffix('/v1')}\n"
    )
    proxy = subprocess.Popen(["haproxy", "-db", "-q", "-f", configuration])
    try:
        base, deadline = f"https://127.0.0.1:{port}/v1", time.monotonic() + 10
        while subprocess.run(["curl", "-s", "-o", scratch / "answer", "--cacert", file("ca"), base]).returncode != 0:
            assert time.monotonic() < deadline, "haproxy does not listen"
        yield base, file("ca")
    finally:
        proxy.terminate()
        proxy.wait()


def tls(bench, options):
    """One large file over TLS 1.3, which haproxy takes off before the server."""
    if shutil.which("haproxy") is None:
        return print("\nNot measured over TLS: there is no haproxy.")
    total = (64 if options.quick else options.large) * MIB
    folder, file, parts, paths = large_file(bench, total)
    with tls_before(bench.server, bench.scratch) as (base, certificate):
        bench.environment["OPENAI_BASE_URL"] = base
        contenders = {
            "upspool": lambda: bench.run(bench.upspool(folder, api=f'ca_file = "{certificate}"'), 1, total),
            "curl, 8 transfers": lambda: bench.curl(file, parts, paths, base, f'cacert = "{certificate}"\n'),
        }
        results = rounds_of(options.rounds, contenders, [file, *paths])
        bench.environment["OPENAI_BASE_URL"] = bench.server.base
    title = f"One file of {total / MIB:.0f} MiB over TLS (haproxy before the server), {len(parts)} Parts, 8 at once; medians of {options.rounds}"
    table(title, results, "MB/s", total / 1e6, "upspool")
    shutil.rmtree(folder)
    shutil.rmtree(paths[0].parent)


def four(bench, options):
    """Four large files with their MD5, beside two threads of MD5 while raw sockets send the same bytes."""
    each = (64 if options.quick else options.large) * MIB
    folder = bench.scratch / "four"
    folder.mkdir()
    files = [folder / f"{number}.bin" for number in range(4)]
    for file in files:
        with open(file, "wb") as out:
            for _ in range(each // MIB):
                out.write(os.urandom(MIB))
    parts = cut(each, max(8, -(-each // 64_000_000)))

    def md5_beside_sendfile():
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            digests = [threads.submit(md5, file) for file in files]
            sent = bench.sendfile({file: parts for file in files})
            [one.result() for one in digests]
        return sent | {"seconds": time.monotonic() - began}

    contenders = {
        "upspool, checksum": lambda: bench.run(bench.upspool(folder, "checksum = true"), 4, 4 * each),
        "MD5 on two cores, beside sendfile": md5_beside_sendfile,
    }
    results = rounds_of(options.rounds, contenders, files)
    title = f"Four files of {each / MIB:.0f} MiB with checksum; medians of {options.rounds}"
    table(title, results, "MB/s", 4 * each / 1e6, "upspool, checksum")
    shutil.rmtree(folder)


def small(bench, options):
    count = 200 if options.quick else options.small
    folder = bench.scratch / "small"
    folder.mkdir()
    files = []
    for number in range(count):
        files.append(folder / f"{number}.jsonl")
        files[-1].write_text(json.dumps({"text": "0" + os.urandom(2041).hex()}) + "\n")
        assert files[-1].stat().st_size == 4096
    total = count * 4096
    contenders = {
        "upspool": lambda: bench.run(bench.upspool(folder, ""), count, total),
        "async-openai, 8 at once, no ledger": lambda: bench.run([options.binaries / "peer", "small", folder, 8], count, total),
        "openai-python, one by one": lambda: bench.run([options.python, HERE / "sdk_helper.py", *files], count, total),
    }
    results = rounds_of(options.rounds, contenders)
    title = f"{count} files of 4 KiB, three requests each (upspool: with MD5 and a ledger that is synced); medians of {options.rounds}"
    table(title, results, "files/s", count, "upspool")
    shutil.rmtree(folder)


def memory(bench, options):
    print("\nMemory at its peak\n")
    folder = bench.scratch / "memory"
    for title, count, length in [("one file of 8 GiB, 8 Parts of 64 MB", 1, 8 << 30), ("10 000 files queued", 10_000, 1)]:
        if options.quick:
            count, length = min(count, 1_000), min(length, 256 * MIB)
            title += f" (quick: {count} of {length} bytes)"
        folder.mkdir()
        for number in range(count):
            with open(folder / f"{number}.bin", "wb") as out:
                out.truncate(length)
        result = bench.run(bench.upspool(folder), count, count * length)
        print(f"- {title}: {result['memory']:.0f} MiB, {result['seconds']:.1f} s", flush=True)
        shutil.rmtree(folder)


def latency(bench, options):
    """From a file's close to the arrival of its create request, less the quiet time that was asked for."""
    count, settle = (20, 0.2) if options.quick else (300, 0.2)
    folder = bench.scratch / "latency"
    folder.mkdir()
    command = bench.upspool(folder)[:-1]
    configuration = command[2]
    configuration.write_text(configuration.read_text().replace("100ms", f"{settle * 1000:.0f}ms"))
    bench.server.reset()
    service = subprocess.Popen([*options.run_with, *map(str, command)], env=bench.environment)
    try:
        creates = lambda: [one for one in bench.server.record()["requests"] if one["operation"] == "create"]

        def wait_for(files):
            deadline = time.monotonic() + 60
            while len(creates()) < files:
                assert time.monotonic() < deadline, f"{len(creates())} of {files} came"
                time.sleep(0.2)

        # It is at work when it has taken this one.
        (folder / "first.txt").write_bytes(b"x")
        wait_for(1)
        closed = {}
        for number in range(count):
            name = f"{number}.txt"
            (folder / name).write_bytes(b"x" * 1000)
            closed[name] = time.time()
            # Of no common measure with any timer.
            time.sleep(0.0231)
        wait_for(1 + count)
    finally:
        service.terminate()
        service.wait()
    # The server's clock is ours.
    arrived = {one["json"]["filename"]: one["time_ms"] / 1000 for one in creates()}
    late = sorted(arrived[name] - at - settle for name, at in closed.items())
    at = lambda share: late[min(len(late) - 1, int(share * len(late)))] * 1000
    print(
        f"\nFrom close to the create request, beyond the settle time ({settle * 1000:.0f} ms), {count} files: "
        f"median {at(0.5):.0f} ms, 99th percentile {at(0.99):.0f} ms, most {late[-1] * 1000:.0f} ms",
        flush=True,
    )
    shutil.rmtree(folder)


WORKS = {"large": large, "tls": tls, "four": four, "small": small, "memory": memory, "latency": latency}


def main():
    parser = parser_of_server()
    parser.add_argument("python", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true", help="small data and one round: within a minute, to see that it runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(WORKS))
    parser.add_argument("--large", type=int, default=1024, metavar="MIB")
    parser.add_argument("--small", type=int, default=2000, metavar="FILES")
    options = parser.parse_args()
    options.rounds = 1 if options.quick else options.rounds
    with started(options, Peers) as bench:
        print(machine())
        for name in options.only.split(","):
            WORKS[name](bench, options)


main()
