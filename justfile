# The verbs of this house. `just` lists them; each is one line that can be typed as well.

_default:
    @just --list --unsorted

# All tests; `just test store` for those with «store» in their name.
test *names:
    cargo test --workspace {{ names }}

# Every cut of the service, over a thousand; `just cuts "small: run 1, before sync 7"` those of that name.
cuts name="":
    UPSPOOL_CUTS=all {{ if name == "" { "" } else { "UPSPOOL_CUT=" + quote(name) } }} cargo test --release --test cut -- --nocapture

# What may not be in the code.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Format.
fmt:
    cargo fmt --all

# The documentation of the code, private items included.
docs:
    cargo doc --workspace --no-deps --document-private-items --open

# The service against an emulator, in one process.
demo:
    cargo run --release --example demo

# The emulator alone; its address is the first line. `just emulator --help`.
emulator *options:
    cargo run --release -p upspool-emulator -- {{ options }}

# Real programs write into the folder; `just writers rsync vim` those of such names. Installs packages, needs root.
writers *names:
    tests/writers/check.sh {{ names }}

# The page in each of its states, in Chromium; `just page busy narrow` those of such names. The last line is where the pictures are.
page *names:
    tests/page/check.sh {{ names }}

# What a change has to pass.
ci:
    .ci/run

# Beside OpenAI's own SDK, async-openai, curl and raw sockets; `just bench --quick` within a minute.
bench *options:
    benches/compare.sh {{ options }}

# The same over a slow, lossy link between two network namespaces. Needs root.
bench-link *options:
    benches/link.sh {{ options }}

# What is hot, each by itself, within a minute; `just bench-hot board` those with «board» in their name.
bench-hot *names:
    cargo bench --bench micro -- {{ names }}

# The instructions of those that do no I/O, which other programs do not disturb. Needs valgrind.
bench-instructions *name:
    benches/instructions.sh {{ name }}

# 100 000 files in 10 000 directories, beside find and rclone.
bench-folder:
    benches/folder.sh

# How cost grows, as curves in docs/growth/; `just bench-growth --quick` within two minutes, without them.
bench-growth *options:
    benches/growth.sh {{ options }}

# Kills, failures and changes of all kinds for so long; the last line says whether anything was lost. With `SEED` as before.
soak minutes *seed:
    cargo build
    cargo run --example soak -- {{ minutes }} {{ seed }}

# What many random actors do to files in a folder, on each file system.
folders seeds:
    UPSPOOL_FOLDER_SEEDS={{ seeds }} cargo test --test folder each_version -- --nocapture

# Answers, configurations and names as they never should be, so many seconds each.
fuzz seconds:
    UPSPOOL_FUZZ_SECONDS={{ seconds }} cargo test --test fuzz -- --nocapture
