# The loop. `just` is a convenience: every recipe is one line of cargo, and `cargo xtask` is the truth.

# the list
default:
    @just --list

# does it compile, and is it tidy?
check:
    cargo clippy --workspace --all-targets -- -D warnings
    cargo xtask tidy

# all tests
test:
    cargo xtask test

# back a folder (or a sample) up, break two drives, restore, compare
try *args:
    cargo xtask try {{args}}

# the real client and vault in virtual time: `just sim 42` lives one seed, `just sim 42 -v` tells its story
sim seed="1" *args:
    cargo run --release --package lavatube-sim -- --seed {{seed}} {{args}}

# as many seeds as you have time for, from SEED on; those that end badly are told with the way back to them
soak seed="1" count="1000":
    cargo run --release --package lavatube-sim -- --seed {{seed}} --count {{count}}

# decoders against hostile bytes (property tests; more cases than `test` runs)
fuzz cases="20000":
    PROPTEST_CASES={{cases}} cargo test --release --package lavatube-format --package lavatube-seal

# measure against other tools: `just bench backup`, and over an emulated link, as root: `just bench link`
bench *what:
    cargo xtask bench {{what}}

# floors, forbidden dependencies, citations, sizes, links
tidy:
    cargo xtask tidy

# everything CI runs
ci:
    ./.ci/run
