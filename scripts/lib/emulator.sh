# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Builds, starts and ends the emulator. Source session.sh first.
# shellcheck shell=bash

EMULATOR_PID=''
# Seconds until a started emulator must serve.
readonly READY_SECONDS=20

# target_folder: cargo reads a relative CARGO_TARGET_DIR from the folder that it runs in.
target_folder() { (cd "$REPO" && realpath -m "${CARGO_TARGET_DIR:-target}"); }

# build_emulator: cargo does nothing if nothing changed.
build_emulator() {
    need_programs cargo
    (cd "$REPO" && cargo build --quiet --release -p fwctl-emu) >&2 || die "the emulator does not build"
}

emulator_binary() { printf '%s\n' "$(target_folder)/release/fwctl-emu"; }

# build_runner: one static file, because the guest has no libraries.
build_runner() {
    need_programs cargo
    (cd "$REPO" && RUSTFLAGS=-Ctarget-feature=+crt-static \
        cargo build --quiet --release --target x86_64-unknown-linux-gnu -p guest-runner) >&2 ||
        die "the guest's test runner does not build"
}

runner_binary() { printf '%s\n' "$(target_folder)/x86_64-unknown-linux-gnu/release/guest-runner"; }

# start_emulator OPTION...: serves with these options; returns when it does. Its log is
# $SESSION/emulator.log.
start_emulator() {
    local ready_fd
    [ -p "$SESSION/ready" ] || mkfifo "$SESSION/ready"
    # Open for both directions, so that neither side waits for the other to open it.
    exec {ready_fd}<>"$SESSION/ready"
    "$(emulator_binary)" serve --ready-fd 3 "$@" 3>&"$ready_fd" \
        >>"$SESSION/emulator.log" 2>&1 </dev/null &
    EMULATOR_PID=$!
    SESSION_PIDS+=("$EMULATOR_PID")
    wait_ready "$ready_fd"
    exec {ready_fd}>&-
}

wait_ready() {
    local i status=0
    for ((i = 0; i < READY_SECONDS * 10; i++)); do
        if read -r -t 0.1 <&"$1"; then
            return
        fi
        if ! is_running "$EMULATOR_PID"; then
            wait "$EMULATOR_PID" || status=$?
            tail -n 5 "$SESSION/emulator.log" >&2
            # A wrong option is the caller's: the same exit code.
            [ "$status" -ne 2 ] || exit 2
            die "the emulator ended with exit code $status before it served"
        fi
    done
    die "the emulator does not serve after $READY_SECONDS s"
}

# show_emulator_log: relays the log to standard error with a prefix, as it is written.
show_emulator_log() {
    (exec tail -n +1 -f --pid="$EMULATOR_PID" "$SESSION/emulator.log" 2>/dev/null) \
        > >(exec sed -u 's/^/fw| /' >&2) &
    SESSION_PIDS+=("$!")
}

# stop_emulator: SIGTERM must end it with exit code 0.
stop_emulator() {
    local status=0
    [ -n "$EMULATOR_PID" ] || return 0
    kill -TERM "$EMULATOR_PID" 2>/dev/null || true
    local i
    for ((i = 0; i < END_PATIENCE; i++)); do
        is_running "$EMULATOR_PID" || break
        sleep 0.1
    done
    ! is_running "$EMULATOR_PID" || status=137
    kill -KILL "$EMULATOR_PID" 2>/dev/null || true
    wait "$EMULATOR_PID" 2>/dev/null || status=$?
    EMULATOR_PID=''
    [ "$status" -eq 0 ] || say "the emulator ended with exit code $status on SIGTERM"
    return "$status"
}

# kill_emulator: as if it had crashed.
kill_emulator() {
    kill -KILL "$EMULATOR_PID"
    wait "$EMULATOR_PID" 2>/dev/null || true
    EMULATOR_PID=''
}

# ask_emulator QUERY NAME=VALUE...: JSON from the control socket.
ask_emulator() { "$(emulator_binary)" ctl --json --control "$SESSION/control" "$@"; }
