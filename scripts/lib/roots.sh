# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Folder trees made of unpacked packages ("roots"), each complete or absent. Source apt.sh first.
# shellcheck shell=bash
#
#   tools      QEMU and the programs that build an initramfs, each run by its own dynamic linker
#   toolchain  compiler, make and kernel headers, entered with chroot
#   builder    what builds a whole kernel, entered with chroot (kasan.sh)
#   kernel     kernel image and modules
#   source     drivers/fwctl of the kernel's source
#   mstflint   the vendor's tools of the next release, for their databases
#   tshark     Wireshark without its window, for the check of what it makes of an exported trace
#
# A root is kept until `scripts/fetch --update` looks for newer packages.

# root_path NAME: where the root is, if it is there.
root_path() { printf '%s\n' "$CACHE/roots/$1"; }

root_exists() { [ -e "$(root_path "$1")/.packages" ]; }

# unpack_all FOLDER [TAR-OPTION...]: unpacks the .deb files named on stdin. Two at a time: this is
# decompression, and small machines have two processors.
unpack_all() {
    local dir=$1
    shift
    # The trees use the merged /usr.
    mkdir -p "$dir"/usr/{bin,sbin,lib,lib64}
    ln -s usr/bin usr/sbin usr/lib usr/lib64 "$dir"
    export UNPACK_DIR=$dir
    # shellcheck disable=SC2016 # expanded by the inner shell
    xargs -P 2 -I '{}' bash -o pipefail -c '
        deb=$1; shift
        dpkg-deb --fsys-tarfile "$deb" |
            tar -x -C "$UNPACK_DIR" --keep-directory-symlink --no-same-owner "$@"' \
        unpack "$APT_DIR/archives/{}" "$@"
}

# Parts of packages that nobody reads here.
readonly NO_DOCS=(--exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale
    --exclude=./usr/share/info --exclude=./usr/share/lintian --exclude=./usr/share/gtk-doc)

# make_root NAME closure|single PACKAGE...: fetches and unpacks, unless the root holds just those
# package versions already.
make_root() {
    local name=$1 how=$2 list dir
    shift 2
    apt_ready
    list=$("apt_$how" "$@") || unavailable "the archive cannot give $* (see the lines above)"
    [ -n "$list" ] || unavailable "the archive has no $*"
    if [ "$list" = "$(cat "$(root_path "$name")/.packages" 2>/dev/null)" ]; then
        return
    fi
    say "fetching $(wc -l <<<"$list") packages: $name"
    apt_get "$how" "$@"
    say "unpacking: $name"
    dir=$(scratch "$name")
    unpack_all "$dir" "${NO_DOCS[@]}" <<<"$list" || die "cannot unpack: $name"
    printf '%s\n' "$list" >"$dir/.packages"
    publish "$dir" "$(root_path "$name")"
    drop_archives "$list"
}

# drop_archives LIST: the tree is what is kept, not the packages.
drop_archives() {
    (cd "$APT_DIR/archives" && xargs -r rm -f) <<<"$1"
}

# The kernel's version string of a root or the newest of the cloud flavour in the archive.
kernel_release() {
    if root_exists kernel; then
        cat "$(root_path kernel)/.release"
    else
        newest_kernel
    fi
}

newest_kernel() {
    local release
    release=$(apt_private apt-cache show --no-all-versions linux-image-cloud-amd64 |
        sed -n 's/^Depends:.*linux-image-\([0-9][^ ,]*-cloud-amd64\).*/\1/p' | sort -V | tail -n 1)
    [ -n "$release" ] || unavailable "the archive has no kernel of the cloud flavour"
    version_at_least "${release%%[+-]*}" "$MIN_KERNEL" ||
        unavailable "the archive's newest kernel is $release; $MIN_KERNEL or newer is needed"
    printf '%s\n' "$release"
}

make_kernel_root() {
    local release image=
    apt_ready
    release=$(newest_kernel)
    # Older packaging has one package, newer has image, modules and their index apart.
    if [ -n "$(apt_private apt-cache madison "linux-binary-$release")" ]; then
        image="linux-binary-$release linux-modules-$release linux-base-$release"
    else
        image="linux-image-$release"
    fi
    # shellcheck disable=SC2086 # several words are meant
    make_root kernel single $image
    printf '%s\n' "$release" >"$(root_path kernel)/.release"
}

make_toolchain_root() {
    local release
    root_exists kernel || die "internal: the kernel comes first"
    release=$(kernel_release)
    make_root toolchain closure "linux-headers-$release" \
        binutils make bash dash coreutils diffutils findutils grep sed mawk gzip xz-utils kmod libc-bin
    # What the package's installation script would set up.
    ln -sfn mawk "$(root_path toolchain)/usr/bin/awk"
}

# What is kept of the kernel's source: the modules that Debian leaves out, and where the layouts of
# proto/facts/ come from.
readonly SOURCE_FILES=('drivers/fwctl/*' 'include/linux/mlx5/*'
    drivers/net/ethernet/mellanox/mlx5/core/lib/nv_param.c
    drivers/net/ethernet/mellanox/mlx5/core/sf/mlx5_ifc_vhca_event.h)

# make_source_root: a few folders of the kernel's source.
make_source_root() {
    local release package list dir wanted
    apt_ready
    release=$(kernel_release)
    package=linux-source-$(cut -d. -f1,2 <<<"$release")
    list=$(apt_single "$package")
    [ -n "$list" ] || unavailable "the archive has no $package"
    if [ "$list" = "$(cat "$(root_path source)/.packages" 2>/dev/null)" ]; then
        return
    fi
    say "fetching the kernel's source (about 170 MB)"
    apt_get single "$package"
    say "unpacking what is needed of it"
    dir=$(scratch source)
    wanted=./usr/src/$package.tar.xz
    dpkg-deb --fsys-tarfile "$APT_DIR/archives/$list" | tar -xO "$wanted" |
        in_tools xz -T0 -dc |
        tar -x -C "$dir" --strip-components=1 --no-same-owner --wildcards "${SOURCE_FILES[@]/#/$package/}" ||
        die "cannot unpack $package"
    [ -e "$dir/drivers/fwctl/main.c" ] || die "$package has no drivers/fwctl"
    printf '%s\n' "$list" >"$dir/.packages"
    publish "$dir" "$(root_path source)"
    drop_archives "$list"
}

# The host's own QEMU is used if it is new enough.
host_qemu() {
    local version
    command -v qemu-system-x86_64 >/dev/null || return 1
    version=$(qemu-system-x86_64 --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p')
    version_at_least "${version:-0}" "$MIN_QEMU"
}

make_tools_root() {
    local packages=(busybox-static cpio kmod socat xz-utils zstd)
    host_qemu || packages+=(qemu-system-x86)
    make_root tools closure "${packages[@]}"
}

# make_mstflint_root: not part of what guests need; made when facts are compared.
make_mstflint_root() {
    apt_want_next
    make_root mstflint single "mstflint/$SUITE_NEXT"
}

# mstflint_version: the version of the mstflint root, without its Debian revision.
mstflint_version() {
    sed -n 's/^mstflint_\([^_-]*\).*/\1/p' "$(root_path mstflint)/.packages" | sed 's/%3a/:/;s/%2b/+/'
}

# make_tshark_root: not part of what guests need; made when an exported trace is checked.
make_tshark_root() { make_root tshark closure tshark; }

# in_tshark ARGUMENT...: runs tshark with its root's own libraries and files. It runs no scripts for
# root, so root becomes somebody else in a user namespace.
in_tshark() {
    local root libraries other=()
    if [ "$(id -u)" -eq 0 ]; then
        other=(unshare --user --map-user=1000)
        "${other[@]}" true 2>/dev/null || unavailable "tshark runs no scripts for root, and there are no user namespaces"
    fi
    root=$(root_path tshark)
    libraries=$root/usr/lib/x86_64-linux-gnu
    WIRESHARK_DATA_DIR=$root/usr/share/wireshark WIRESHARK_EXTCAP_DIR=$root/none \
        "${other[@]}" "$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$libraries:$libraries/systemd" \
        "$root/usr/bin/tshark" "$@"
}

# in_tools PROGRAM ARGUMENT...: runs a program of the tools root with that root's own libraries.
in_tools() {
    local root program=$1
    root=$(root_path tools)
    shift
    "$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$(tools_libraries)" \
        --argv0 "$program" "$(tools_program "$program")" "$@"
}

tools_libraries() {
    local lib
    lib=$(root_path tools)/usr/lib/x86_64-linux-gnu
    printf '%s\n' "$lib:$lib/pulseaudio:$lib/systemd"
}

tools_program() {
    local dir root
    root=$(root_path tools)
    for dir in bin sbin; do
        if [ -e "$root/usr/$dir/$1" ]; then
            printf '%s\n' "$root/usr/$dir/$1"
            return
        fi
    done
    die "internal: no program $1 in the tools root"
}

# ensure_root NAME...: makes the roots that are missing, and what they need.
ensure_root() {
    local name
    for name in "$@"; do
        if root_exists "$name"; then
            continue
        fi
        case $name in
        toolchain) ensure_root kernel ;;
        source) ensure_root tools kernel ;;
        esac
        locked fetch ensure_root_locked "$name"
    done
}

ensure_root_locked() {
    root_exists "$1" || "make_${1}_root"
}
