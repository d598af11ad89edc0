# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Everything that must be there before a guest can start: programs, kernel, modules, initramfs.
# Source the other libraries first.
# shellcheck shell=bash

# Files for the guest.
GUEST_FILES=()

# prepare_guest KERNEL MODULES KBUILD PACKAGES: each may be empty. KERNEL and MODULES are the user's
# own image and /lib/modules tree, which must have the drivers of GUEST_DEVICES. Sets GUEST_KERNEL and GUEST_INITRD.
prepare_guest() {
    local kernel=$1 modules=$2 kbuild=$3 packages=$4 release built='' builds
    need_programs apt-get apt-cache apt-config cargo dpkg dpkg-deb flock sha256sum tar unshare
    # Compiling and fetching do not wait for each other.
    (build_emulator && build_runner) &
    builds=$!
    SESSION_PIDS+=("$builds")
    ensure_root tools
    if [ -n "$kernel" ]; then
        release=$(image_release "$kernel")
        [ -n "$release" ] || die "$kernel: this image does not say its version"
        modules=$(find_module_tree "$modules" "$release")
        built=$(build_for_own_kernel "$modules" "$kbuild" "$(drivers)")
    else
        built=$(build_debian_modules)
        release=$(kernel_release)
        kernel=$(debian_image)
        modules=$(root_path kernel)/usr/lib/modules/$release
    fi
    GUEST_KERNEL=$(boot_image "$kernel")
    GUEST_INITRD=("$(base_part)")
    if [ -n "$packages" ]; then
        GUEST_INITRD+=("$(packages_part "$packages")")
    fi
    if [ ${#GUEST_FILES[@]} -gt 0 ]; then
        GUEST_INITRD+=("$(files_part "${GUEST_FILES[@]}")")
    fi
    GUEST_INITRD+=("$(modules_part "$release" "$modules" "$built")")
    pick_accel
    wait "$builds" || exit 1
    [ -x "$(runner_binary)" ] || die "no $(runner_binary); is cargo told to build elsewhere? CARGO_TARGET_DIR says where"
    GUEST_INITRD+=("$(runner_part "$(runner_binary)")")
}

# find_module_tree FOLDER RELEASE: FOLDER is /lib/modules/RELEASE of some root, or holds it.
find_module_tree() {
    local dir
    for dir in "$1" "$1/$2" "$1/lib/modules/$2" "$1/usr/lib/modules/$2"; do
        if [ -d "$dir/kernel" ]; then
            realpath "$dir"
            return
        fi
    done
    die "--modules $1 holds no modules of kernel $2"
}

# has_module TREE NAME: as a file, or built in.
has_module() {
    local file
    file=$(module_file "$1" "$2")
    [ -n "$file" ] || grep -q "/${2//[-_]/[-_]}\.ko" "$1/modules.builtin" 2>/dev/null
}

# build_for_own_kernel TREE KBUILD DRIVERS: the folder with the modules that we build, or nothing if
# TREE has all of DRIVERS.
build_for_own_kernel() {
    local tree=$1 kbuild=$2 name missing='' has=no
    for name in $3; do
        has_module "$tree" "$name" || missing+=" $name"
    done
    [ -n "$missing" ] || return 0
    if has_module "$tree" fwctl && has_module "$tree" mlx5_fwctl; then
        has=yes
    fi
    [ -n "$kbuild" ] || [ ! -e "$tree/build/Makefile" ] || kbuild=$tree/build
    [ -n "$kbuild" ] || die "--modules $tree lacks$missing; give --kbuild DIR to have that built"
    build_other_modules "$(realpath "$kbuild")" "$has"
}
