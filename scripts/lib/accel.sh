# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# KVM or emulation? There are machines where /dev/kvm opens and guests hang, so only a guest that
# really boots is believed. Source guest.sh first.
# shellcheck shell=bash

# A guest under KVM is up in two seconds.
readonly PROBE_SECONDS=20

# pick_accel: sets GUEST_ACCEL. FWCTL_EMU_ACCEL=tcg|kvm skips the probe.
pick_accel() {
    local verdict
    GUEST_ACCEL=${FWCTL_EMU_ACCEL:-}
    [ -z "$GUEST_ACCEL" ] || return 0
    GUEST_ACCEL=tcg
    [ -w /dev/kvm ] || return 0
    verdict=$CACHE/accel-$(uname -nr | sha256sum | cut -c1-16)
    if [ ! -e "$verdict" ]; then
        say "trying whether a guest boots with KVM (at most $PROBE_SECONDS s, once on this machine)"
        if probe_kvm; then
            printf 'kvm\n' >"$verdict"
        else
            say "it does not; emulation is used (remove $verdict to try again)"
            printf 'tcg\n' >"$verdict"
        fi
    fi
    GUEST_ACCEL=$(cat "$verdict")
}

probe_kvm() (
    # A folder of its own: nothing of the probe stays in the real run's logs.
    SESSION=$SESSION/probe
    mkdir "$SESSION"
    GUEST_ACCEL=kvm
    GUEST_DEVICES=()
    start_guest
    up=1
    wait_guest_up $((SECONDS + PROBE_SECONDS)) && up=0
    stop_guest
    exit "$up"
)
