# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Shared by every script here: where things are, how to speak, how to lock. Meant to be sourced.
# shellcheck shell=bash

set -euo pipefail
shopt -s inherit_errexit

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PROG=$(basename "$0")
CACHE=${FWCTL_EMU_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/fwctl-emu}

# The guest needs a kernel and a QEMU of at least these versions.
readonly MIN_KERNEL=7.3
readonly MIN_QEMU=10.1
# Exit code of `unavailable` inside the scripts; what a user sees is 1.
readonly UNAVAILABLE=77

say() { printf '%s: %s\n' "$PROG" "$*" >&2; }

# die MESSAGE...: one line with the reason, exit 1.
die() {
    say "$*"
    exit 1
}

# unavailable MESSAGE...: the archive cannot give something now. No fault of the project: a test that
# needs it is skipped.
unavailable() {
    say "$*"
    exit "$UNAVAILABLE"
}

# usage_error MESSAGE...: a wrong command line, exit 2.
usage_error() {
    say "$* (see --help)"
    exit 2
}

# help_text FILE: the comment block after the SPDX line of a script is its help.
help_text() { sed -n '3,/^[^#]/{/^#/s/^# \{0,1\}//p;}' "$1"; }

# need_programs NAME...: fails naming everything that is missing, not only the first.
need_programs() {
    local name missing=()
    for name in "$@"; do
        command -v "$name" >/dev/null || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] || die "missing on this machine: ${missing[*]}"
}

# locked NAME COMMAND...: runs COMMAND with the lock NAME of the cache held. Two runs that need the
# same thing do not make it twice: the second waits, then finds it made.
locked() {
    local name=$1
    shift
    mkdir -p "$CACHE/lock"
    (
        if ! flock --nonblock 9; then
            say "waiting for another run that makes the same ($name)"
            flock 9
        fi
        "$@"
    ) 9>"$CACHE/lock/$name"
}

# publish TEMP FINAL: makes a finished folder visible in one step. What is there under its final
# name is complete, so an interrupted run leaves nothing that looks finished.
publish() {
    rm -rf "$2"
    mkdir -p "$(dirname "$2")"
    mv -T "$1" "$2"
}

# remove_stale FOLDER: what is in there as NAME.PID and belongs to a process that is gone.
remove_stale() {
    local dir
    for dir in "$1"/*.*; do
        [ ! -d "$dir" ] || [ -d "/proc/${dir##*.}" ] || rm -rf "$dir"
    done
}

# scratch NAME: an empty folder on the cache's file system. Those of killed runs go.
scratch() {
    local dir
    remove_stale "$CACHE/scratch"
    dir=$CACHE/scratch/$1.$$
    rm -rf "$dir"
    mkdir -p "$dir"
    printf '%s\n' "$dir"
}

# version_at_least HAVE WANT: compares as the package system does.
version_at_least() { dpkg --compare-versions "$1" ge "$2"; }

# hash_of FILE-OR-FOLDER...: one hash over names and contents.
hash_of() {
    find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16
}
