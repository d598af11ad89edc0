# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Runs a command inside an unpacked root, without being root where user namespaces are allowed.
# shellcheck shell=bash

# sandbox_way: how this machine lets us change the root: "user" (a user namespace), "mount" (root
# with a mount namespace) or "plain" (root in a container that may not mount).
sandbox_way() {
    if [ "$(id -u)" -ne 0 ]; then
        unshare --user --map-root-user --mount true 2>/dev/null ||
            die "this needs user namespaces (sysctl kernel.unprivileged_userns_clone=1, or run it as root)"
        printf 'user\n'
    elif unshare --mount true 2>/dev/null; then
        printf 'mount\n'
    else
        printf 'plain\n'
    fi
}

# in_root FOLDER COMMAND...: the command sees FOLDER as /, with the machine's /dev and /proc and no more.
in_root() {
    local root=$1 enter=() way
    shift
    way=$(sandbox_way)
    mkdir -p "$root/dev" "$root/tmp" "$root/proc"
    case $way in
    user) enter=(unshare --user --map-root-user --mount) ;;
    mount) enter=(unshare --mount) ;;
    plain)
        [ -c "$root/dev/null" ] || mknod -m 666 "$root/dev/null" c 1 3
        # objtool asks for its stack limit.
        mkdir -p "$root/proc/self"
        cp /proc/self/limits "$root/proc/self/limits"
        ;;
    esac
    # shellcheck disable=SC2016 # expanded by the inner shell
    env -i PATH=/usr/sbin:/usr/bin HOME=/ LC_ALL=C "${enter[@]}" /bin/sh -c '
        set -e
        root=$1 way=$2
        shift 2
        if [ "$way" != plain ]; then
            mount --rbind /dev "$root/dev"
            mount --rbind /proc "$root/proc"
        fi
        exec chroot "$root" "$@"' sandbox "$root" "$way" "$@"
}
