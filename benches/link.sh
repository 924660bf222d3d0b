#!/usr/bin/env bash
# upspool beside the others over a slow link: 100 Mbit/s, 100 ms there and back, 0.1 % loss. Needs root, /dev/net/tun and
# iproute2.
#
#   benches/link.sh [options of compare.sh]      DELAY=50 LOSS=0.1 RATE=100 are those of benches/link.py
set -euo pipefail
cd "$(dirname "$0")/.."

server=upspool-server-$$ client=upspool-client-$$ scratch=$(mktemp -d) link=
end() {
    [ -z "$link" ] || kill "$link" 2>/dev/null || true
    wait
    ip netns delete "$server" 2>/dev/null || true
    ip netns delete "$client" 2>/dev/null || true
    cat "$scratch/link" >&2 2>/dev/null || true
    rm -rf "$scratch"
}
trap end EXIT

for namespace in "$server" "$client"; do
    ip netns add "$namespace"
    ip -n "$namespace" link set lo up
done
mkfifo "$scratch/ready"
python3 benches/link.py "$server" 192.0.2.1 "$client" 192.0.2.2 \
    --delay "${DELAY:-50}" --loss "${LOSS:-0.1}" --rate "${RATE:-100}" > >(tee "$scratch/link" >"$scratch/ready") &
link=$!
read -r _ <"$scratch/ready"

benches/compare.sh --only large,small --large 128 --small 200 "$@" \
    --serve-with "ip netns exec $server" --run-with "ip netns exec $client" --listen 192.0.2.1:0
