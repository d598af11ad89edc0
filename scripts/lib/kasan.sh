# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# A kernel that checks each memory access (KASAN), built from Debian's source with a small configuration.
# Source roots.sh and sandbox.sh first.
# shellcheck shell=bash

KASAN_CONFIG=$REPO/guest-tests/driver-fuzz/kasan.config
# Kernels that are kept in the cache.
readonly KASAN_KERNELS_MAX=2

# make_builder_root: what builds a whole kernel, entered with chroot.
make_builder_root() {
    make_root builder closure gcc libc6-dev libelf-dev flex bison bc perl-base gawk cpio \
        binutils make bash dash coreutils diffutils findutils grep sed gzip xz-utils kmod libc-bin
    ln -sfn gawk "$(root_path builder)/usr/bin/awk"
}

# kasan_kernel: prints the folder that holds `kernel` and `lib/modules/RELEASE`; builds it at first use.
kasan_kernel() {
    local package list out
    apt_ready
    ensure_root kernel tools
    package=linux-source-$(cut -d. -f1,2 <<<"$(kernel_release)")
    list=$(apt_single "$package")
    [ -n "$list" ] || unavailable "the archive has no $package"
    out=$CACHE/kasan/${list%_all.deb}-$(hash_of "$KASAN_CONFIG")
    [ -e "$out/kernel" ] || {
        ensure_root builder
        locked kasan build_kasan "$package" "$list" "$out"
    }
    touch "$out"
    printf '%s\n' "$out"
}

# build_kasan PACKAGE DEB OUT
build_kasan() {
    local package=$1 deb=$2 out=$3 root inner tree log new line
    [ ! -e "$out/kernel" ] || return 0
    root=$(root_path builder)
    remove_stale "$root/build"
    inner=/build/kernel.$$
    tree=$root$inner
    mkdir -p "$tree"
    say "fetching the kernel's source (about 170 MB)"
    apt_get single "$package"
    say "unpacking it (about 2 GB)"
    dpkg-deb --fsys-tarfile "$APT_DIR/archives/$deb" | tar -xO "./usr/src/$package.tar.xz" |
        in_tools xz -T0 -dc | tar -x -C "$tree" --strip-components=1 --no-same-owner ||
        die "cannot unpack $package"
    drop_archives "$deb"
    cp "$KASAN_CONFIG" "$tree/wanted.config"
    new=$(scratch kasan)
    log=$new/build.log
    kernel_make() { in_root "$root" make -C "$inner" -j "$(nproc)" "$@" >>"$log" 2>&1; }
    kernel_make KCONFIG_ALLCONFIG=wanted.config allnoconfig || kasan_failed "$log" "$tree"
    grep -v '^#' "$KASAN_CONFIG" | grep . | while IFS= read -r line; do
        grep -qxF -- "$line" "$tree/.config" || printf '%s\n' "$line"
    done >"$new/lost"
    [ ! -s "$new/lost" ] || die "this kernel does not take: $(tr '\n' ' ' <"$new/lost")"
    say "building a kernel with KASAN (ten minutes on two processors; log: $log)"
    kernel_make bzImage modules || kasan_failed "$log" "$tree"
    kernel_make INSTALL_MOD_PATH="$inner/installed" modules_install || kasan_failed "$log" "$tree"
    cp "$tree/arch/x86/boot/bzImage" "$new/kernel"
    cp -r "$tree/installed/lib" "$new/"
    cp "$tree/.config" "$new/config"
    rm -f "$new"/lib/modules/*/build "$new"/lib/modules/*/source "$new/lost"
    rm -rf "$tree"
    publish "$new" "$out"
    prune_builds "$CACHE/kasan" "$KASAN_KERNELS_MAX"
}

# kasan_failed LOG TREE
kasan_failed() {
    mv "$1" "$CACHE/kasan-build.log"
    rm -rf "$2"
    grep -E 'error|Error|undefined' "$CACHE/kasan-build.log" | head -n 40 >&2 || true
    die "the kernel does not build (above: what was wrong; the whole log: $CACHE/kasan-build.log)"
}
