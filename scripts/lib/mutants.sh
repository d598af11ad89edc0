# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Mutants of guest-tests/mutants/: patched modules, and faults of the firmware. Source scenario.sh first.
# shellcheck shell=bash

MUTANTS=$REPO/guest-tests/mutants

# mutant_modules: builds fwctl.ko and mlx5_fwctl.ko with each patch; prints the folder that holds them as
# NAME.fwctl.ko and NAME.mlx5_fwctl.ko. Kept until a patch, the source or the kernel changes.
mutant_modules() {
    local release source out
    need_programs patch
    ensure_root kernel toolchain source
    release=$(kernel_release)
    source=$(root_path source)/drivers/fwctl
    out=$CACHE/mutants/$release-$(hash_of "$source" "$MUTANTS"/*.patch "$REPO/scripts/lib/modules.sh")
    [ -d "$out" ] || locked mutants build_mutants "$release" "$source" "$out"
    touch "$out"
    printf '%s\n' "$out"
}

build_mutants() {
    local release=$1 source=$2 out=$3 root name dir inner new patch
    [ ! -d "$out" ] || return 0
    say "building fwctl with each of the $(printf '%s\n' "$MUTANTS"/*.patch | wc -l) patches in guest-tests/mutants/"
    root=$(root_path toolchain)
    remove_stale "$root/build"
    new=$(scratch mutants)
    inner=/build/mutants.$$
    dir=$root$inner
    for patch in "$MUTANTS"/*.patch; do
        name=$(basename "$patch" .patch)
        say "  $name"
        rm -rf "$dir"
        mkdir -p "$dir"
        VIRTIO_FWCTL='' lay_out "$dir" "$source"
        patch --quiet --fuzz=0 -p1 -d "$dir/fwctl" <"$patch" >&2 || die "$patch does not apply to $source"
        if ! run_make "$inner" "/usr/src/linux-headers-$release" in_root "$root" >"$new/build.log" 2>&1; then
            mv "$new/build.log" "$CACHE/mutants-build.log"
            rm -rf "$dir"
            build_failed "$CACHE/mutants-build.log"
        fi
        cp "$dir/fwctl/fwctl.ko" "$new/$name.fwctl.ko"
        cp "$dir/fwctl/mlx5/mlx5_fwctl.ko" "$new/$name.mlx5_fwctl.ko"
    done
    rm -rf "$dir" "$new/build.log"
    publish "$new" "$out"
    prune_builds "$CACHE/mutants" 2
}

# mutant_faults FILE: arms its lines, WHEN : THEN : times=N each (docs/faults.md).
mutant_faults() {
    local when then times
    while IFS=: read -r when then times; do
        ask_emulator fault "when=$when" "then=$then" "times=${times#*times=}" >/dev/null || return 1
    done < <(grep -v '^#' "$1")
}

# triggers: what the tests need of an emulated device goes to EMULATOR_OPTIONS, and to a file for
# mutant_faults.
triggers() {
    local line
    "$(runner_binary)" triggers >"$SESSION/triggers.fault"
    while read -r line; do EMULATOR_OPTIONS+=(--fault "$line"); done <"$SESSION/triggers.fault"
}

# guest_script: for the guest: puts the modules NAME.*.ko in place and binds the functions anew.
guest_script() {
    cat <<'SCRIPT'
#!/bin/sh
# use-modules NAME
for m in mlx5_fwctl fwctl; do rmmod $m 2>/dev/null; done
for m in fwctl mlx5_fwctl; do cp "/files/$1.$m.ko" "/lib/modules/$(uname -r)/extra/$m.ko" || exit 1; done
cd /sys/bus/pci/drivers/mlx5_core || exit 1
for f in /sys/bus/pci/devices/*; do
    [ "$(cat "$f/vendor")" = 0x15b3 ] || continue
    f=${f##*/}
    [ ! -e "$f" ] || echo "$f" >unbind
    echo "$f" >bind || exit 1
done
modprobe mlx5_fwctl
SCRIPT
}

# in_guest COMMAND: what it prints goes to $SESSION/mutant.ktap alone.
in_guest() { guest_run $((SECONDS + SUITE_SECONDS)) "$1" >"$SESSION/mutant.ktap" || broken "$GUEST_REASON"; }

# use_modules NAME: of a mutant, or `sound`.
use_modules() {
    in_guest "sh /files/use-modules $1"
    [ "$GUEST_STATUS" -eq 0 ] || broken "the guest cannot use the modules of $1"
}
