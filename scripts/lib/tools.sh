# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Programs from the crate registry that only some scripts need. Meant to be sourced after common.sh.
# shellcheck shell=bash

# cargo_tool CRATE VERSION: builds a program once into the cache, and prints the folder it is in.
cargo_tool() {
    local root=$CACHE/tools/$1-$2
    # It is there, and empty, from the beginning of an installation.
    if [ ! -s "$root/.crates.toml" ]; then
        say "building $1 $2 (once; some minutes)"
        cargo install --quiet --locked --root "$root" --version "$2" "$1" >&2 ||
            die "$1 $2 cannot be built: is the crate registry reachable?"
    fi
    printf '%s\n' "$root/bin"
}
