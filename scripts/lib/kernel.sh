# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# The kernel image in the form that boots fastest: the ELF file inside a bzImage, which QEMU enters
# directly (PVH) without the boot loader code and the slow unpacking under emulation.
# shellcheck shell=bash

# Images that are kept.
readonly IMAGES_MAX=4

# number FILE OFFSET SIZE: a little-endian number in a file.
number() { od -An -v -t "u$3" -j "$2" -N "$3" "$1" | tr -d ' '; }

# magic FILE OFFSET COUNT: bytes in hex.
magic() { od -An -v -t x1 -j "$2" -N "$3" "$1" | tr -d ' \n'; }

# extract_vmlinux IMAGE OUT: offsets are those of the x86 boot protocol, version 2.08 and later.
extract_vmlinux() {
    local image=$1 out=$2 start length unpack
    if [ "$(magic "$image" 0 4)" = 7f454c46 ]; then
        cp "$image" "$out"
        return
    fi
    [ "$(magic "$image" 514 4)" = 48647253 ] || die "$image is neither an ELF file nor a bzImage"
    start=$((($(number "$image" 497 1) + 1) * 512 + $(number "$image" 584 4)))
    length=$(number "$image" 588 4)
    case $(magic "$image" "$start" 6) in
    1f8b*) unpack=(gzip -dc) ;;
    fd377a585a00) unpack=(in_tools xz -dc) ;;
    28b52ffd*) unpack=(in_tools zstd -dc) ;;
    7f454c46*) unpack=(cat) ;;
    *) die "$image: its compression is not known here; give the vmlinux file instead" ;;
    esac
    # The last four bytes are the unpacked size; gzip's format has it already, of the others it is no part.
    case ${unpack[0]} in
    gzip | cat) ;;
    *) length=$((length - 4)) ;;
    esac
    dd if="$image" bs=64K iflag=skip_bytes,count_bytes skip="$start" count="$length" \
        status=none | "${unpack[@]}" >"$out" ||
        die "cannot unpack the kernel in $image"
    [ "$(magic "$out" 0 4)" = 7f454c46 ] || die "$image holds no ELF kernel"
}

# image_release IMAGE: the version string of a bzImage, or of the banner in an ELF kernel.
image_release() {
    local at
    if [ "$(magic "$1" 514 4)" = 48647253 ]; then
        at=$(($(number "$1" 526 2) + 512))
        dd if="$1" bs=256 iflag=skip_bytes skip="$at" count=1 status=none | tr '\0' '\n' |
            sed -n '1s/ .*//p'
    else
        grep -a -m1 -o 'Linux version [0-9][^ ]*' "$1" | sed 's/.* //'
    fi
}

# debian_image: the image in the kernel root; where it lies depends on the packaging's age.
debian_image() {
    local root file
    root=$(root_path kernel)
    for file in "$root"/usr/lib/modules/*/vmlinuz "$root"/boot/vmlinuz-*; do
        if [ -e "$file" ]; then
            printf '%s\n' "$file"
            return
        fi
    done
    die "no kernel image in $root"
}

# boot_image IMAGE: the extracted kernel, kept in the cache.
boot_image() {
    local out
    out=$CACHE/images/vmlinux-$(sha256sum "$1" | cut -c1-16)
    [ -e "$out" ] || locked images extract_to_cache "$1" "$out"
    touch "$out"
    printf '%s\n' "$out"
}

extract_to_cache() {
    [ ! -e "$2" ] || return 0
    mkdir -p "$CACHE/images"
    extract_vmlinux "$1" "$2.new"
    mv "$2.new" "$2"
    prune_builds "$CACHE/images" "$IMAGES_MAX"
}
