# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Builds the guest's modules: fwctl and mlx5_fwctl, which Debian's kernel configuration leaves out,
# and our virtio_fwctl. Source roots.sh and sandbox.sh first.
# shellcheck shell=bash

# Our own driver.
VIRTIO_FWCTL=${VIRTIO_FWCTL:-$REPO/guest-tests/kmod/virtio_fwctl}
# Builds that are kept in the cache.
readonly MODULE_BUILDS_MAX=8
# What a plain `make` in the kernel's tree would set for these options.
readonly FWCTL_OPTIONS=(CONFIG_FWCTL=m CONFIG_FWCTL_MLX5=m)
readonly FWCTL_DEFINES="-DCONFIG_FWCTL_MODULE=1 -DCONFIG_FWCTL_MLX5_MODULE=1"

# lay_out FOLDER FWCTL-SOURCE: one tree with everything, so that modpost sees all symbols at once.
# FWCTL-SOURCE may be empty: the kernel has these modules already.
lay_out() {
    local dir=$1 fwctl=$2
    printf '# SPDX-License-Identifier: GPL-2.0-only\n' >"$dir/Kbuild"
    if [ -n "$fwctl" ]; then
        mkdir "$dir/fwctl"
        # Only what the two modules need.
        cp -r "$fwctl/Kconfig" "$fwctl/Makefile" "$fwctl/main.c" "$fwctl/mlx5" "$dir/fwctl/"
        printf 'obj-m += fwctl/\n' >>"$dir/Kbuild"
    fi
    if [ -e "$VIRTIO_FWCTL/Kbuild" ]; then
        mkdir "$dir/virtio_fwctl"
        find "$VIRTIO_FWCTL" -maxdepth 1 \( -name '*.[ch]' -o -name Kbuild -o -name Makefile \) \
            -exec cp -t "$dir/virtio_fwctl" '{}' +
        printf 'obj-m += virtio_fwctl/\n' >>"$dir/Kbuild"
    fi
}

# collect FROM TO: the finished modules and their symbols.
collect() {
    find "$1" -name '*.ko' -exec cp -t "$2" '{}' +
    cp "$1/Module.symvers" "$2/"
}

# run_make FOLDER KBUILD RUNNER...: kbuild's own way to build modules outside of its tree.
run_make() {
    local dir=$1 kbuild=$2
    shift 2
    "$@" make -j "$(nproc)" -C "$kbuild" "M=$dir" "${FWCTL_OPTIONS[@]}" \
        "KCFLAGS=$FWCTL_DEFINES" ${MODULE_WARNINGS:+W=1} modules
}

# show_complaints LOG: what the compiler said about our driver.
show_complaints() {
    grep -E 'virtio_fwctl.*(warning|error):' "$1" >&2
}

# build_failed LOG
build_failed() {
    grep -E 'error|Error|undefined' "$1" | head -n 40 >&2 || true
    tail -n 5 "$1" >&2
    die "the modules do not build (above: what was wrong; the whole log: $1)"
}

# build_debian_modules: for the kernel in the cache; prints the folder that holds the .ko files.
build_debian_modules() {
    local release key out
    ensure_root kernel toolchain source
    release=$(kernel_release)
    key=$(module_key "$release" "$(root_path source)/drivers/fwctl")
    out=$CACHE/modules/$key
    if [ ! -e "$out/Module.symvers" ] || [ -n "${MODULE_WARNINGS:-}" ]; then
        locked "modules-$key" build_in_toolchain "$release" "$out"
    fi
    touch "$out"
    printf '%s\n' "$out"
}

module_key() {
    local ours=()
    [ ! -d "$VIRTIO_FWCTL" ] || ours=("$VIRTIO_FWCTL")
    printf '%s-%s\n' "$1" "$(hash_of "$2" "${ours[@]}" "$REPO/scripts/lib/modules.sh")"
}

build_in_toolchain() {
    local release=$1 out=$2 root inner dir new
    [ ! -e "$out/Module.symvers" ] || [ -n "${MODULE_WARNINGS:-}" ] || return 0
    say "building the guest's modules for $release"
    root=$(root_path toolchain)
    remove_stale "$root/build"
    inner=/build/modules.$$
    dir=$root$inner
    rm -rf "$dir"
    mkdir -p "$dir"
    lay_out "$dir" "$(root_path source)/drivers/fwctl"
    new=$(scratch modules)
    if ! run_make "$inner" "/usr/src/linux-headers-$release" in_root "$root" \
        >"$new/build.log" 2>&1; then
        mv "$new/build.log" "$CACHE/modules-build.log"
        rm -rf "$dir"
        build_failed "$CACHE/modules-build.log"
    fi
    show_complaints "$new/build.log" || true
    collect "$dir" "$new"
    rm -rf "$dir"
    publish "$new" "$out"
    prune_builds "$CACHE/modules" "$MODULE_BUILDS_MAX"
}

# build_other_modules RELEASE KBUILD HAS-FWCTL: for a kernel of the user's own, with this machine's
# compiler. HAS-FWCTL is "yes" if its modules hold fwctl already.
build_other_modules() {
    local kbuild=$1 has_fwctl=$2 fwctl='' out tree
    need_programs make
    out=$(scratch kbuild)
    if [ "$has_fwctl" != yes ]; then
        for tree in "$kbuild/source" "$kbuild"; do
            [ ! -e "$tree/drivers/fwctl/main.c" ] || fwctl=$tree/drivers/fwctl
        done
        if [ -z "$fwctl" ]; then
            ensure_root source
            fwctl=$(root_path source)/drivers/fwctl
        fi
    fi
    mkdir "$out/tree" "$out/ko"
    lay_out "$out/tree" "$fwctl"
    say "building the guest's modules in $kbuild"
    run_make "$out/tree" "$kbuild" env >"$out/build.log" 2>&1 || build_failed "$out/build.log"
    collect "$out/tree" "$out/ko"
    printf '%s\n' "$out/ko"
}

# prune_builds FOLDER COUNT: keeps the COUNT entries used last.
prune_builds() {
    local old
    # shellcheck disable=SC2012 # the names are ours
    ls -1t "$1" | tail -n "+$(($2 + 1))" | while IFS= read -r old; do
        rm -rf "${1:?}/$old"
    done
}
