# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Starts a guest, runs commands in it, ends it. Source session.sh and roots.sh first.
# shellcheck shell=bash
#
# Set before start_guest:
#   GUEST_KERNEL   the extracted kernel
#   GUEST_INITRD   the initramfs archives (array), in order
#   GUEST_DEVICES  TRANSPORT=SOCKET (array), in order
#   GUEST_ACCEL    tcg or kvm
# The kernel's console goes to $SESSION/serial.log, what the guest prints to $SESSION/guest.log.

GUEST_PID=''
GUEST_MARK=''
GUEST_REASON=''
GUEST_DEVICES=()
GUEST_INITRD=()
GUEST_ACCEL=tcg
# Set to yes if a reset shall start the guest again rather than end it.
GUEST_REBOOTS=no
# More options of each root port, with a comma before them.
GUEST_PORT=''

GUEST_MEMORY=${GUEST_MEMORY:-512M}
GUEST_CPUS=${GUEST_CPUS:-2}
# How long a guest in trouble may take to print its kernel log.
readonly DMESG_SECONDS=10
# The first root port on bus 0; functions keep their order there.
readonly FIRST_PORT=4
# The virtio device type, and the shape of the device: docs/virtio-fwctl.md.
readonly VIRTIO_ID=38 VIRTIO_QUEUES=2 VIRTIO_QUEUE_SIZE=256 VIRTIO_CONFIG_SIZE=32

# What the guest's kernel must not spend time on under emulation, and what makes a fault visible:
# an oops or a panic ends the guest at once.
readonly GUEST_CMDLINE="console=ttyS0 loglevel=5 panic=-1 oops=panic nokaslr mitigations=off
    tsc=reliable no_timer_check rodata=off cryptomgr.notests audit=0 random.trust_cpu=on
    initcall_blacklist=load_system_certificate_list pci=realloc,hpmmioprefsize=64M,hpmmiosize=4M"

# qemu_words: the words that start QEMU, the installed one or that of the cache, one a line.
qemu_words() {
    local root
    if host_qemu; then
        printf 'qemu-system-x86_64\n'
        return
    fi
    root=$(root_path tools)/usr
    printf '%s\n' env "QEMU_MODULE_DIR=$root/lib/x86_64-linux-gnu/qemu" "$root/lib64/ld-linux-x86-64.so.2" \
        --library-path "$(tools_libraries)" "$root/bin/qemu-system-x86_64" \
        -L "$root/share/qemu" -L "$root/share/seabios"
}

# qemu ARGUMENT...: becomes QEMU. For use in a subshell.
qemu() {
    local words
    mapfile -t words < <(qemu_words)
    exec "${words[@]}" "$@"
}

# device_arguments: QEMU's options for GUEST_DEVICES, one a line. Each function has a root port of
# its own, as a card in a slot has. The ports are not hot-pluggable: a firmware reset refuses those.
device_arguments() {
    local i=0 device socket
    for device in "${GUEST_DEVICES[@]}"; do
        socket=${device#*=}
        printf '%s\n' -device "pcie-root-port,id=port$i,addr=$((i + FIRST_PORT)),chassis=$((i + 1)),slot=$((i + 1)),hotplug=off$GUEST_PORT"
        case $device in
        vfio-user=*)
            printf '%s\n' -device "{\"driver\":\"vfio-user-pci\",\"bus\":\"port$i\",\"socket\":{\"type\":\"unix\",\"path\":\"$socket\"}}"
            ;;
        vhost-user=*)
            printf '%s\n' -chardev "socket,id=door$i,path=$socket" -device \
                "vhost-user-test-device-pci,bus=port$i,chardev=door$i,virtio-id=$VIRTIO_ID,num_vqs=$VIRTIO_QUEUES,vq_size=$VIRTIO_QUEUE_SIZE,config_size=$VIRTIO_CONFIG_SIZE"
            ;;
        *) die "internal: $device is no device" ;;
        esac
        i=$((i + 1))
    done
}

# One thread for all processors of an emulated guest. With a thread each, a processor now and then
# executes the breakpoint through which Linux patches its code after the patching has ended: "Oops:
# int3", once in some hundred boots (https://bugzilla.redhat.com/show_bug.cgi?id=2216496).
readonly TCG='tcg,thread=single'

# machine_arguments: QEMU's options for the machine without its devices, one a line. Writes the initrd.
machine_arguments() {
    local reset=(-no-reboot) cpu=max${GUEST_CPU:-} accel=$TCG
    [ "$GUEST_REBOOTS" != yes ] || reset=()
    [ "$GUEST_ACCEL" != kvm ] || cpu=host${GUEST_CPU:-} accel=kvm
    cat "${GUEST_INITRD[@]}" >"$SESSION/initrd"
    printf '%s\n' -nodefaults -no-user-config -display none -name fwctl-emu-guest "${reset[@]}" \
        -machine "q35,memory-backend=mem,vmport=off,sata=off,smbus=off,i8042=off" \
        -accel "$accel" -cpu "$cpu" -smp "$GUEST_CPUS" -m "$GUEST_MEMORY" \
        -object "memory-backend-memfd,id=mem,size=$GUEST_MEMORY,share=on" \
        -bios qboot.rom -kernel "$GUEST_KERNEL" -initrd "$SESSION/initrd" \
        -append "$(tr -s ' \n' ' ' <<<"$GUEST_CMDLINE ${GUEST_MORE_CMDLINE:-}")"
}

# start_guest: returns at once; wait_guest_up waits for it.
start_guest() {
    local devices=() machine=()
    mapfile -t devices < <(device_arguments)
    mapfile -t machine < <(machine_arguments)
    rm -f "$SESSION"/{in,out,qmp}
    mkfifo "$SESSION/in" "$SESSION/out"
    exec {GUEST_IN}<>"$SESSION/in"
    qemu "${machine[@]}" \
        -chardev "file,id=console,path=$SESSION/serial.log,append=on" -serial chardev:console \
        -chardev stdio,id=port,signal=off -serial chardev:port \
        -chardev "socket,id=qmp,path=$SESSION/qmp,server=on,wait=off" -mon chardev=qmp,mode=control \
        "${devices[@]}" \
        <"$SESSION/in" >"$SESSION/out" 2>>"$SESSION/qemu.log" &
    GUEST_PID=$!
    SESSION_PIDS+=("$GUEST_PID")
    # The shell shall not comment on how QEMU ended.
    disown "$GUEST_PID"
    # Opening waits for the other side; QEMU's shell opens it before anything can fail.
    exec {GUEST_OUT}<"$SESSION/out"
    GUEST_MARK=@$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')@
    GUEST_REASON=''
}

# guest_line SECONDS: the next line in LINE. Fails with the reason in GUEST_REASON.
guest_line() {
    local status=0
    LINE=''
    IFS= read -r -t "$1" LINE <&"$GUEST_OUT" || status=$?
    if [ "$status" -gt 128 ]; then
        GUEST_REASON=$(kernel_complaint) || GUEST_REASON="the guest does not answer in time"
        return 1
    elif [ "$status" -ne 0 ] && [ -z "$LINE" ]; then
        GUEST_REASON=$(why_guest_ended)
        return 1
    fi
    LINE=${LINE%$'\r'}
}

# why_guest_ended: in one line, from what is left of it.
why_guest_ended() {
    local text
    if text=$(kernel_complaint); then
        printf '%s\n' "$text"
    elif [ -s "$SESSION/qemu.log" ]; then
        printf 'QEMU ended: %s\n' "$(tail -n 1 "$SESSION/qemu.log")"
    else
        printf 'the guest ended by itself\n'
    fi
}

# kernel_complaint: the first line on the console that a sound kernel never prints.
kernel_complaint() {
    grep -a -m1 -E 'Kernel panic|Oops|BUG: |kernel BUG at|general protection|Call Trace|cut here|blocked for more than|detected stall|soft lockup' \
        "$SESSION/serial.log" 2>/dev/null | tr -d '\r' | sed 's/^\[[ 0-9.]*\] //'
}

# seconds_left DEADLINE: until that point of $SECONDS, at least 1.
seconds_left() {
    local left=$(($1 - SECONDS))
    printf '%s\n' "$((left > 1 ? left : 1))"
}

# wait_guest_up DEADLINE: until its first process asks for work.
wait_guest_up() {
    while guest_line "$(seconds_left "$1")"; do
        [ "$LINE" != guest-is-up ] || return 0
    done
    return 1
}

guest_send() { printf '%s %s\n' "$GUEST_MARK" "$*" >&"$GUEST_IN"; }

# guest_run DEADLINE COMMAND: runs a shell command line in the guest and relays what it prints to
# standard output and guest.log. GUEST_STATUS is its exit code. Fails, with GUEST_REASON, if the
# guest does not answer.
guest_run() {
    case $2 in *$'\n'*) die "internal: a command of several lines" ;; esac
    guest_send "run $2"
    guest_answer "$1"
}

# The answer comes on a line of its own, after an empty one if the output ended with a newline.
# So empty lines are held back until it is known what follows them.
guest_answer() {
    local empty=0
    while guest_line "$(seconds_left "$1")"; do
        if [ -z "$LINE" ]; then
            empty=$((empty + 1))
            continue
        fi
        case $LINE in
        guest-is-up)
            GUEST_REASON=$(kernel_complaint) || GUEST_REASON="the guest started again by itself"
            return 1
            ;;
        "$GUEST_MARK exit "*)
            for (( ; empty > 1; empty--)); do
                guest_print ''
            done
            GUEST_STATUS=${LINE##* }
            return 0
            ;;
        esac
        for (( ; empty > 0; empty--)); do
            guest_print ''
        done
        guest_print "$LINE"
    done
    [ -z "$LINE" ] || guest_print "$LINE"
    return 1
}

guest_print() {
    printf '%s\n' "$1"
    printf '%s\n' "$1" >>"${GUEST_LOG:-$SESSION/guest.log}"
}

# drivers: the modules that GUEST_DEVICES are for.
drivers() {
    local all=" ${GUEST_DEVICES[*]}"
    case $all in *' vfio-user='*) printf 'mlx5_fwctl ' ;; esac
    case $all in *' vhost-user='*) printf 'virtio_fwctl ' ;; esac
}

# load_drivers DEADLINE
load_drivers() {
    local names
    names=$(drivers)
    [ -n "$names" ] || return 0
    guest_run "$1" "modprobe -a $names" || return 1
    [ "$GUEST_STATUS" -eq 0 ] || GUEST_REASON="the guest cannot load $names"
    return "$GUEST_STATUS"
}

# guest_dmesg FILE: the kernel's log, if the guest still answers.
guest_dmesg() {
    # Neither the command's exit code nor its output.
    local deadline=$((SECONDS + DMESG_SECONDS)) GUEST_STATUS='' GUEST_LOG=/dev/null
    is_running "${GUEST_PID:-0}" || return 0
    guest_send dmesg
    guest_answer "$deadline" >"$1" || true
}

# guest_reboot DEADLINE: a reset within the same QEMU. Needs GUEST_REBOOTS=yes.
guest_reboot() {
    guest_send reboot
    wait_guest_up "$1"
}

# kill_guest: as if QEMU had crashed.
kill_guest() {
    kill -KILL "$GUEST_PID"
    stop_guest
}

# stop_guest: QEMU closes its devices on SIGTERM, as on a host's shutdown.
stop_guest() {
    [ -n "$GUEST_PID" ] || return 0
    end_process "$GUEST_PID"
    GUEST_PID=''
    exec {GUEST_IN}>&- {GUEST_OUT}<&-
}
