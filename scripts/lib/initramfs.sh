# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Builds the guest's initramfs from parts. Each part is a cpio archive that is kept until what it is
# made of changes; the kernel unpacks archives one after the other. Source roots.sh first.
# shellcheck shell=bash
#
#   base      busybox, /init
#   modules   the kernel modules below with what they need, uncompressed, and their index
#   runner    the guest-runner binary
#   packages  what --packages asks for
#   files     what --file brings

INIT=$REPO/guest-tests/initramfs/init
# Those that a kernel does not have are left out.
readonly GUEST_MODULES="mlx5_core mlx5_ib ib_uverbs mlx5_fwctl fwctl virtio_fwctl vfio-pci virtio_pci
    virtio_console qemu_fw_cfg mlxfw"
# Parts of each kind that are kept.
readonly PARTS_MAX=12

# pack FOLDER OUT: owned by root whoever builds it, and in a fixed order.
pack() {
    (cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z |
        in_tools cpio --quiet --null --create --format=newc --owner=0:0 --reproducible) >"$2"
}

# part KIND KEY MAKER ARGUMENT...: prints the archive's file; makes it if there is none with this
# key. MAKER is called with a folder to fill and ARGUMENT...
part() {
    local kind=$1 key=$2 out
    out=$CACHE/initramfs/$kind-$key.cpio
    [ -e "$out" ] || locked "initramfs-$kind" make_part "$out" "$@"
    touch "$out"
    printf '%s\n' "$out"
}

make_part() {
    local out=$1 kind=$2 maker=$4 dir
    shift 4
    [ ! -e "$out" ] || return 0
    dir=$(scratch "$kind")
    mkdir -p "$CACHE/initramfs"
    "$maker" "$dir" "$@"
    pack "$dir" "$out.new"
    rm -rf "$dir"
    mv "$out.new" "$out"
    prune_parts "$kind"
}

prune_parts() {
    # shellcheck disable=SC2012 # the names are ours
    ls -1t "$CACHE/initramfs/$1-"*.cpio | tail -n "+$((PARTS_MAX + 1))" | xargs -r rm -f
}

fill_base() {
    local dir=$1 name
    mkdir -p "$dir"/{dev,proc,sys,tmp,run,root,etc,mnt,usr/bin,usr/sbin,usr/lib,usr/lib64}
    ln -s usr/bin usr/sbin usr/lib usr/lib64 "$dir"
    cp "$(tools_program busybox)" "$dir/usr/bin/busybox"
    # Links, because installing them at boot costs a second under emulation.
    for name in $("$(tools_program busybox)" --list); do
        [ "$name" = busybox ] || ln -s busybox "$dir/usr/bin/$name"
    done
    ln -s ../bin/busybox "$dir/usr/sbin/modprobe"
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$dir/etc/passwd"
    printf 'root:x:0:\n' >"$dir/etc/group"
    install -m 755 "$INIT" "$dir/init"
}

base_part() {
    local busybox
    busybox=$(tools_program busybox)
    part base "$(hash_of "$busybox" "$INIT" "$REPO/scripts/lib/initramfs.sh")" fill_base
}

# module_file TREE NAME: a module is named with either sign, and may be compressed.
module_file() {
    find "$1" -name "${2//[-_]/[-_]}.ko*" -print -quit
}

# fill_modules FOLDER RELEASE TREE BUILT: TREE is a kernel's /lib/modules/RELEASE, BUILT a folder
# with .ko files of ours.
fill_modules() {
    local dir=$1 release=$2 tree=$3 built=$4 all out name file
    all=$(scratch module-tree)
    out=$dir/usr/lib/modules/$release
    mkdir -p "$out/kernel" "$out/extra" "$all/lib/modules"
    # depmod sees the kernel's modules and ours as one tree, and says who needs whom.
    mkdir "$all/lib/modules/$release"
    cp -r -s "$tree/kernel" "$all/lib/modules/$release/kernel"
    cp -t "$all/lib/modules/$release" "$tree"/modules.{builtin,order,builtin.modinfo} 2>/dev/null || true
    [ ! -d "$tree/extra" ] || cp -r "$tree/extra" "$all/lib/modules/$release/"
    mkdir -p "$all/lib/modules/$release/extra"
    [ -z "$built" ] || cp -t "$all/lib/modules/$release/extra" "$built"/*.ko
    in_tools depmod -b "$all" "$release"
    for name in $GUEST_MODULES; do
        file=$(module_file "$all/lib/modules/$release" "$name")
        [ -n "$file" ] || continue
        copy_with_needs "$all/lib/modules/$release" "${file#"$all/lib/modules/$release/"}" "$out"
    done
    cp -t "$out" "$all/lib/modules/$release"/modules.{builtin,order,builtin.modinfo} 2>/dev/null || true
    in_tools depmod -b "$dir/usr" "$release"
    rm -rf "$all"
}

# copy_with_needs TREE FILE OUT: a module and those it needs, from modules.dep, uncompressed:
# unpacking under emulation costs more than reading.
copy_with_needs() {
    local tree=$1 out=$3 file
    for file in $2 $(sed -n "s|^$2:||p" "$tree/modules.dep"); do
        mkdir -p "$out/$(dirname "$file")"
        case $file in
        *.ko) cp -L "$tree/$file" "$out/$file" ;;
        *.ko.xz) in_tools xz -dc "$tree/$file" >"$out/${file%.xz}" ;;
        *.ko.zst) in_tools zstd -q -dc "$tree/$file" >"$out/${file%.zst}" ;;
        *.ko.gz) gzip -dc "$tree/$file" >"$out/${file%.gz}" ;;
        *) die "$file: a compression that is not known here" ;;
        esac
    done
}

# modules_part RELEASE TREE BUILT
modules_part() {
    local key ours=()
    [ -z "$3" ] || ours=("$3"/*.ko)
    # A kernel's modules do not change under the same names and sizes.
    key=$({
        find "$2" -name '*.ko*' -printf '%P %s\n' | LC_ALL=C sort
        hash_of "${ours[@]}" "$REPO/scripts/lib/initramfs.sh"
    } | sha256sum | cut -c1-16)
    part modules "$1-$key" fill_modules "$@"
}

# fill_files FOLDER FILE...: for the commands in the guest, and for drivers that ask for firmware.
fill_files() {
    local dir=$1
    shift
    mkdir -p "$dir/files" "$dir/usr/lib/firmware"
    cp -t "$dir/files" -- "$@"
    ln -s -t "$dir/usr/lib/firmware" $(printf '../../../files/%s\n' "${@##*/}")
}

# files_part FILE...
files_part() { part files "$(hash_of "$@" "$REPO/scripts/lib/initramfs.sh")" fill_files "$@"; }

fill_runner() { install -D -m 755 "$2" "$1/usr/bin/guest-runner"; }

# runner_part BINARY
runner_part() { part runner "$(hash_of "$1")" fill_runner "$1"; }

# fill_packages FOLDER PACKAGE...: with what they need, as unpacked, without installation scripts.
fill_packages() {
    local dir=$1 list
    shift
    apt_ready
    list=$(apt_closure "$@") || unavailable "the archive cannot give $*"
    say "fetching $(wc -l <<<"$list") packages for the guest: $*"
    apt_get closure "$@"
    unpack_all "$dir" "${NO_DOCS[@]}" --exclude=./boot <<<"$list" || die "cannot unpack: $*"
    # The base has these as links; they must not become folders.
    rm -rf "${dir:?}"/{bin,sbin,lib,lib64,dev,proc,sys,run,tmp,var/cache}
    drop_archives "$list"
}

# packages_part NAME,NAME...: a name may carry a suite (mstflint/forky).
packages_part() {
    local names
    IFS=, read -r -a names <<<"$1"
    case $1 in
    */*) apt_want_next ;;
    esac
    part packages "$(printf '%s' "$1" | tr ',/' '_.')" fill_packages "${names[@]}"
}
