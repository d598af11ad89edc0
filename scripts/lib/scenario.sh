# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# What a scenario of scripts/test is written with: an emulator, a guest, suites in the guest, checks
# on the host. All results go to standard output as KTAP reports, one after the other.
# shellcheck shell=bash
# shellcheck source=all.sh
source "$(dirname "${BASH_SOURCE[0]}")/all.sh"

# scripts/test skips a scenario for which something cannot be fetched.
# shellcheck disable=SC2034 # session.sh reads it
UNAVAILABLE_SEEN=$UNAVAILABLE
# Seconds that a guest may take to come up, and a suite to end. Generous: a loaded machine with an
# emulated processor is slow, and no test is about time.
readonly UP_SECONDS=120 SUITE_SECONDS=${SUITE_SECONDS:-300}
# Seconds until the emulator must have seen what happened to its client.
readonly SETTLE_SECONDS=10
ARTIFACTS=${ARTIFACTS:-$REPO/artifacts}/$PROG
SCENARIO_FAILED=''
# More options for the emulator of a scenario.
EMULATOR_OPTIONS=()
# What it logs: each command, as far as nothing is measured.
EMULATOR_LOG=(--log-commands)

# scenario_open PACKAGES: what is needed is there afterwards.
scenario_open() {
    session_open
    prepare_guest '' '' '' "$1"
}

# scenario_emulator PROFILE TRANSPORT...: an emulator with these functions.
scenario_emulator() {
    local profile=$1 name options=()
    shift
    GUEST_DEVICES=()
    for name in "$@"; do
        GUEST_DEVICES+=("$name=$SESSION/fw${#GUEST_DEVICES[@]}")
        options+=("--$name" "$SESSION/fw$((${#GUEST_DEVICES[@]} - 1))")
    done
    start_emulator "${options[@]}" --profile "$profile" --control "$SESSION/control" "${EMULATOR_LOG[@]}" \
        "${EMULATOR_OPTIONS[@]}"
}

# scenario_guest: a guest with the drivers of GUEST_DEVICES.
scenario_guest() {
    start_guest
    guest_must wait_guest_up
    guest_must load_drivers
}

# profile_scenario NAME: the whole scenario of a card with an Ethernet port.
profile_scenario() {
    scenario_open iproute2,ethtool
    scenario_emulator "$1" vfio-user
    scenario_guest
    suite mlx5-probe
    suite mlx5-eth
    suite mlx5-link
    suite mlx5-ib
    scenario_end
}

# tools_version VERSION: what the tools in the guest must say of themselves (suite mst-fwctl).
tools_version() {
    printf '%s\n' "$1" >"$SESSION/version"
    GUEST_FILES+=("$SESSION/version")
}

# pci_tools_scenario PACKAGE VERSION: the vendor's tools of PACKAGE by PCI address, through the gateway.
pci_tools_scenario() {
    # mstfwreset refuses to run on a virtual machine; the card's link must come up again (mst-flash).
    GUEST_CPU=,-hypervisor GUEST_PORT=,x-speed=2_5
    session_open
    build_emulator
    flash_files
    stored_registers
    tools_version "$2"
    # The database of this version is in the guest, with the interpreter that the tools need.
    cp "$REPO/scripts/expected-parameters" "$SESSION/list-parameters"
    cp "$REPO/scripts/expected-registers" "$SESSION/list-registers"
    GUEST_FILES+=("$SESSION"/list-{parameters,registers} "$REPO/fw-model/profiles/connectx7.toml")
    prepare_guest '' '' '' "$1,iproute2,pciutils,kmod,util-linux"
    scenario_emulator connectx7 vfio-user
    scenario_guest
    expect_in_guest parameters mlxconfig_dbs/mlxconfig_host.db /files/connectx7.toml 1 "$2"
    expect_in_guest registers prm_dbs/hca/ext/register_access_table.adb
    suite mlx5-probe
    suite mst-config-list --device pci
    suite mst-config --device pci
    suite mst-fwctl --device pci
    suite mst-link --device pci
    suite mst-dump --device pci
    suite mst-refused --device pci
    suite mst-pci
    suite mst-flash --device pci
    suite mst-reset
    suite mst-regdump
    scenario_end
}

# card_tools_scenario PROFILE VERSION: mstflint, mstlink and mstmget_temp by PCI address on a card of PROFILE; VERSION
# is newer than that of its firmware.
card_tools_scenario() {
    session_open
    build_emulator
    make_image --profile "$1" --version "$2" "$SESSION/newer.bin"
    printf '%s\n' "$2" >"$SESSION/newer.version"
    GUEST_FILES=("$SESSION"/newer.{bin,version})
    prepare_guest '' '' '' mstflint/forky,iproute2,pciutils
    scenario_emulator "$1" vfio-user
    scenario_guest
    suite mlx5-probe
    suite mst-card
    scenario_end
}

# expect_in_guest WHAT DATABASE ARGUMENT...: the guest's /files/expected-WHAT, from its own database.
expect_in_guest() {
    local what=$1 database=/usr/share/mstflint/$2
    shift 2
    guest_must guest_run "python3 /files/list-$what $database $* >/files/expected-$what"
    [ "$GUEST_STATUS" -eq 0 ] || broken "no list of $what to expect"
}

# config_scenario PROFILE PORTS: mstconfig lists just what its database gives such a card.
config_scenario() {
    local database functions=() n
    session_open
    ensure_root mstflint
    database=$(root_path mstflint)/usr/share/mstflint/mlxconfig_dbs/mlxconfig_host.db
    "$REPO/scripts/expected-parameters" "$database" "$1" "$2" >"$SESSION/expected-parameters" ||
        broken "no list of parameters to expect"
    # shellcheck disable=SC2034 # prepare_guest reads it
    GUEST_FILES=("$SESSION/expected-parameters")
    prepare_guest '' '' '' mstflint/forky
    for ((n = 0; n < $2; n++)); do functions+=(vfio-user); done
    scenario_emulator "$1" "${functions[@]}"
    scenario_guest
    suite mlx5-probe
    suite mst-config-list
    scenario_end
}

# flash_files: the files of suites mst-flash and mst-refused.
flash_files() {
    make_image --version 28.44.1 --mfa2 "$SESSION/28.44.1.mfa2"
    make_image --version 28.45.1000 "$SESSION/28.45.1000.bin"
    make_image --profile connectx6dx --version 22.45.1000 "$SESSION/other.bin"
    make_image --profile connectx6dx --version 22.45.1000 --mfa2 "$SESSION/other.mfa2"
    GUEST_FILES=("$SESSION"/{28.44.1.mfa2,28.45.1000.bin,other.bin,other.mfa2})
}

# stored_registers: for suite mst-fwctl, the registers that the firmware merely stores.
stored_registers() {
    "$(emulator_binary)" list registers --json | tr '{' '\n' |
        sed -n '/"content":"store"/s/.*"name":"\([^"]*\)".*/\1/p' >"$SESSION/stored-registers"
    [ -s "$SESSION/stored-registers" ] || broken "no list of registers"
    GUEST_FILES+=("$SESSION/stored-registers")
}

make_image() { "$(emulator_binary)" image "$@" || broken "no firmware image"; }

# guest_must FUNCTION ARGUMENT...: FUNCTION gets a deadline first. Without a guest nothing can go on.
guest_must() {
    local function=$1 deadline=$((SECONDS + UP_SECONDS))
    shift
    "$function" "$deadline" "$@" || broken "$GUEST_REASON"
}

# suite NAME ARGUMENT...: its report is the guest's own.
suite() {
    guest_run $((SECONDS + SUITE_SECONDS)) "guest-runner suite $*" || broken "suite $1: $GUEST_REASON"
    [ "$GUEST_STATUS" -eq 0 ] || SCENARIO_FAILED="suite $1"
}

# host_check NAME COMMAND...: one result; what COMMAND says on standard error tells why it is bad.
host_check() {
    local name=$1 said
    shift
    printf 'KTAP version 1\n1..1\n'
    if said=$("$@" 2>&1 >/dev/null); then
        printf 'ok 1 %s\n' "$name"
    else
        # shellcheck disable=SC2001 # one prefix for each line
        [ -z "$said" ] || sed 's/^/# /' <<<"$said"
        printf 'not ok 1 %s\n' "$name"
        SCENARIO_FAILED="check $name"
    fi
}

# broken REASON: the scenario cannot go on.
broken() {
    printf 'KTAP version 1\n1..1\n# %s\nnot ok 1 scenario-ends\n' "$1"
    guest_dmesg "$SESSION/dmesg.log"
    keep_artifacts "$ARTIFACTS" "$1"
    exit 1
}

# scenario_end: nothing may have gone wrong unseen, and everything must end well.
scenario_end() {
    scenario_stop
    scenario_done
}

# scenario_stop: what scenario_end checks, for a scenario that has checks of its own behind it.
scenario_stop() {
    host_check no-kernel-complaint no_kernel_complaint
    [ -z "$SCENARIO_FAILED" ] || guest_dmesg "$SESSION/dmesg.log"
    stop_guest
    # Not in host_check: its subshell could not forget the process.
    local ended=0
    stop_emulator || ended=$?
    host_check emulator-ends-with-exit-code-0 test "$ended" -eq 0
    host_check emulator-log-without-panic no_panic
}

scenario_done() {
    [ -z "$SCENARIO_FAILED" ] || keep_artifacts "$ARTIFACTS" "$SCENARIO_FAILED"
    exit 0
}

no_kernel_complaint() { ! kernel_complaint >&2; }

no_panic() { ! grep -m3 'panicked at' "$SESSION/emulator.log" >&2; }

# settles COMMAND...: true as soon as COMMAND is, within SETTLE_SECONDS.
settles() {
    local deadline=$((SECONDS + SETTLE_SECONDS))
    until "$@" 2>/dev/null; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            "$@"
            return
        fi
        sleep 0.2
    done
}

# functions_report: one line per function of the card, from the control socket.
functions_report() {
    ask_emulator functions | tr -d ' \n' | sed 's/},{"/},\n{"/g'
    printf '\n'
}

# no_uctx_left: true if no function holds a user context.
no_uctx_left() {
    local report
    report=$(functions_report)
    printf '%s\n' "$report" >&2
    grep -q '"uctx":' <<<"$report" && ! grep -q '"uctx":[1-9]' <<<"$report"
}
