"""A slow, lossy link between two network namespaces, for kernels without sch_netem. See link.sh.

    link.py NAMESPACE_A ADDRESS_A NAMESPACE_B ADDRESS_B --delay MS --loss PERCENT --rate MBIT [--queue KB] [--seed N]

Each packet goes through this process, which keeps it back for `delay`, loses some by a seeded generator, and lets no more
through in either direction than `rate`, with a queue of `queue` in front. Says «ready», and what it did when it ends by SIGTERM.
"""

import argparse
import ctypes
import fcntl
import heapq
import os
import random
import select
import signal
import struct
import subprocess
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001
DEVICE = "tun0"


def end_of_link(namespace, mine, peer):
    """A TUN device in `namespace`, as a descriptor that is read and written here."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if libc.setns(there, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"cannot enter the namespace {namespace}")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN_NO_PI))
    libc.setns(home, CLONE_NEWNET)
    os.close(there)
    os.close(home)
    for command in (["addr", "add", mine, "peer", peer, "dev", DEVICE], ["link", "set", DEVICE, "mtu", "1500", "txqueuelen", "1000", "up"]):
        subprocess.run(["ip", "-n", namespace, *command], check=True)
    return device


def carry(ends, options):
    chance = random.Random(options.seed)
    under_way, count, free, seen = [], 0, [0.0, 0.0], {"packets": 0, "lost": 0, "overflowed": 0}
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    poll = select.poll()
    for end in ends:
        poll.register(end, select.POLLIN)
    print("ready", flush=True)
    while not stopped:
        now = time.monotonic()
        while under_way and under_way[0][0] <= now:
            _, _, end, packet = heapq.heappop(under_way)
            try:
                os.write(ends[end], packet)
            except OSError:
                seen["overflowed"] += 1
        wait = 200 if not under_way else max(0.0, (under_way[0][0] - time.monotonic()) * 1000)
        if 0 < wait < 1:  # poll counts in whole milliseconds.
            time.sleep(wait / 1000)
            wait = 0
        for readable, _ in poll.poll(wait):
            end = ends.index(readable)
            for _ in range(64):
                try:
                    packet = os.read(readable, 65535)
                except BlockingIOError:
                    break
                seen["packets"] += 1
                now = time.monotonic()
                if chance.random() * 100 < options.loss:
                    seen["lost"] += 1
                    continue
                # A queue of so many KB, whose tail is dropped.
                if (free[end] - now) * options.rate * 125 > options.queue:
                    seen["overflowed"] += 1
                    continue
                free[end] = max(now, free[end]) + len(packet) * 8 / (options.rate * 1e6)
                count += 1
                heapq.heappush(under_way, (free[end] + options.delay / 1000, count, 1 - end, packet))
    print(seen, flush=True)


def main():
    parser = argparse.ArgumentParser()
    for name in ("namespace_a", "address_a", "namespace_b", "address_b"):
        parser.add_argument(name)
    parser.add_argument("--delay", type=float, default=50, help="milliseconds, in each direction")
    parser.add_argument("--loss", type=float, default=0.1, help="per cent of the packets, in each direction")
    parser.add_argument("--rate", type=float, default=100, help="megabits per second, in each direction")
    parser.add_argument("--queue", type=float, default=1000, help="kilobytes")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    ends = [
        end_of_link(options.namespace_a, options.address_a, options.address_b),
        end_of_link(options.namespace_b, options.address_b, options.address_a),
    ]
    carry(ends, options)


main()
