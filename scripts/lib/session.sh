# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# One run: a folder for its sockets and logs, and the promise that nothing outlives it.
# shellcheck shell=bash

SESSION=''
# Processes of this run, ended with it. Each was started by us and is ended by its number.
SESSION_PIDS=()
# What a caller sees if something cannot be fetched.
UNAVAILABLE_SEEN=1
# How long a process may take to end when asked, in tenths of a second.
readonly END_PATIENCE=50

# session_open: the folder's path is short, because a socket's path may have 107 bytes.
session_open() {
    SESSION=$(mktemp -d "${TMPDIR:-/tmp}/fwctl-emu.XXXXXX")
    trap session_close EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

session_close() {
    local status=$? pid
    trap - EXIT
    for pid in "${SESSION_PIDS[@]}"; do
        end_process "$pid"
    done
    [ -z "$SESSION" ] || rm -rf "$SESSION"
    [ "$status" -ne "$UNAVAILABLE" ] || status=$UNAVAILABLE_SEEN
    exit "$status"
}

# end_process PID: asks, waits, then kills. Safe for one that has ended.
end_process() {
    local pid=$1 i
    kill -TERM "$pid" 2>/dev/null || return 0
    for ((i = 0; i < END_PATIENCE; i++)); do
        # A stopped child stays a zombie until it is waited for; kill -0 would still find it.
        is_running "$pid" || break
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}

# is_running PID: true unless it is gone or a zombie.
is_running() {
    local state
    state=$(sed -n 's/^[0-9]* (.*) \(.\).*/\1/p' "/proc/$1/stat" 2>/dev/null) || return 1
    [ -n "$state" ] && [ "$state" != Z ]
}

# keep_artifacts FOLDER REASON: the logs of a run that went wrong.
keep_artifacts() {
    local file
    mkdir -p "$1"
    printf '%s\n' "$2" >"$1/reason"
    for file in "$SESSION"/*.log; do
        [ ! -e "$file" ] || cp "$file" "$1/"
    done
    say "logs are in $1"
}
