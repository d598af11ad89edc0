// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The system calls of a process that serves. Each is there because a test fails without it, or because
//! another C library or another processor makes it in its place.

use std::collections::BTreeMap;

use libc::{
    AF_UNIX, CLONE_THREAD, F_DUPFD_CLOEXEC, F_GET_SEALS, F_GETFD, F_GETFL, F_SETFD, F_SETFL,
    FIOCLEX, FIONBIO, PR_SET_NAME, PROT_EXEC, c_long,
};
use seccompiler::{
    BackendError, SeccompCmpArgLen as Len, SeccompCmpOp as Is, SeccompCondition as Condition,
    SeccompRule,
};

/// Allowed whatever their arguments.
const ANY: &[c_long] = &[
    // Files and sockets that are open.
    libc::SYS_close,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_accept4,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    // Clients' eventfds, whose flags are theirs too.
    libc::SYS_preadv2,
    // Files by name: Landlock says which.
    libc::SYS_getcwd,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_readlinkat,
    libc::SYS_renameat2,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    // Waiting.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Threads and memory.
    libc::SYS_brk,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getrandom,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_robust_list,
    // What a panic and an abort need.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Whose control socket it is.
    libc::SYS_geteuid,
];

/// Older ways to say the same.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[];

/// What is allowed; `connects` to unix sockets or not.
///
/// # Errors
/// The filter cannot be made.
pub fn allowed(connects: bool) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut all: BTreeMap<i64, Vec<SeccompRule>> =
        ANY.iter().chain(OLD).map(|n| (*n, Vec::new())).collect();
    let mut only = |call: c_long, argument: u8, op: Is, values: &[u64]| {
        let rule = |v: &u64| {
            let condition = Condition::new(argument, Len::Dword, op.clone(), *v)?;
            SeccompRule::new(vec![condition])
        };
        let rules = values.iter().map(rule).collect::<Result<_, _>>()?;
        all.insert(call, rules);
        Ok(())
    };
    // Threads, no processes.
    let thread = CLONE_THREAD as u64;
    only(libc::SYS_clone, 0, Is::MaskedEq(thread), &[thread])?;
    // No memory becomes code.
    let code = PROT_EXEC as u64;
    only(libc::SYS_mmap, 2, Is::MaskedEq(code), &[0])?;
    only(libc::SYS_mprotect, 2, Is::MaskedEq(code), &[0])?;
    let fcntl = [
        F_DUPFD_CLOEXEC,
        F_GETFD,
        F_SETFD,
        F_GETFL,
        F_SETFL,
        F_GET_SEALS,
    ];
    only(libc::SYS_fcntl, 1, Is::Eq, &fcntl.map(|c| c as u64))?;
    only(libc::SYS_ioctl, 1, Is::Eq, &[FIONBIO, FIOCLEX])?;
    // The name of a thread.
    only(libc::SYS_prctl, 0, Is::Eq, &[PR_SET_NAME as u64])?;
    // A signal to itself: an abort.
    only(
        libc::SYS_tgkill,
        0,
        Is::Eq,
        &[u64::from(std::process::id())],
    )?;
    if connects {
        only(libc::SYS_socket, 0, Is::Eq, &[AF_UNIX as u64])?;
        all.insert(libc::SYS_connect, Vec::new());
    }
    Ok(all)
}

/// What is answered as if there were no such call.
#[must_use]
pub fn absent() -> BTreeMap<i64, Vec<SeccompRule>> {
    BTreeMap::from([(libc::SYS_clone3, Vec::new())])
}
