# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# A guest whose firmware does something wrong, and what is expected of its driver. Source scenario.sh first.
# shellcheck shell=bash

# What the guest's shell has: a command of the firmware, and waiting for a line of the kernel's log.
readonly PRELUDE='nop() { guest-runner rpc --opcode NOP --out-len 16 >/dev/null 2>&1; }
nops() { for i in 1 2 3 4 5; do nop || return; done; }
said() { i=0; until dmesg | grep -q "$1"; do i=$((i + 1)); [ $i -lt 150 ] || exit 9; sleep 1; done; }
again() { (cd /sys/bus/pci/drivers/mlx5_core && echo 0000:01:00.0 >unbind && echo 0000:01:00.0 >bind); }'

# with_faults NAME COMMAND CHECK OPTION...: a result: CHECK, which gets COMMAND, is true in a guest whose emulator
# has these options.
with_faults() {
    local name=$1 command=$2 check=$3
    shift 3
    GUEST_DEVICES=("vfio-user=$SESSION/fw0")
    rm -f "$SESSION/serial.log"
    start_emulator --vfio-user "$SESSION/fw0" --control "$SESSION/control" --log-commands "$@"
    start_guest
    guest_must wait_guest_up
    # shellcheck disable=SC2034 # checks read it
    deadline=$((SECONDS + SUITE_SECONDS))
    host_check "$name" "$check" "$command"
    stop_guest
    stop_emulator || true
}

# in_guest COMMAND: by its shell, with the drivers loaded; false if the guest does not live through it.
in_guest() {
    guest_run "$deadline" "$(drivers | sed 's/^/modprobe -a /'); ${PRELUDE//$'\n'/; }; $1" >&2
}

# succeeds COMMAND
succeeds() {
    in_guest "$1" || {
        printf '%s\n' "$GUEST_REASON" >&2
        return 1
    }
    [ "$GUEST_STATUS" -eq 0 ] || {
        printf 'exit code %s\n' "$GUEST_STATUS" >&2
        guest_dmesg "$SESSION/dmesg.log"
        tail -n 5 "$SESSION/dmesg.log" >&2
        return 1
    }
}
