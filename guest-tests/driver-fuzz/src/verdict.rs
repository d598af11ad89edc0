// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a console says of a kernel that went wrong.

/// Lines that a sound kernel never prints, whatever its devices do.
const COMPLAINTS: [&str; 17] = [
    "KASAN:",
    "KFENCE:",
    "UBSAN:",
    "BUG:",
    "BUG ",
    "kernel BUG at",
    "Oops",
    "general protection fault",
    "WARNING:",
    "list_add corruption",
    "list_del corruption",
    "refcount_t:",
    "blocked for more than",
    "detected stall",
    "soft lockup",
    "scheduling while atomic",
    "Kernel panic",
];

/// How long a signature may be in bytes.
const MAX_SIGNATURE: usize = 200;

/// What the kernel complained of first, without what differs from run to run: time, addresses, numbers of
/// processes, distances. None if it did not.
#[must_use]
pub fn signature(console: &str) -> Option<String> {
    let lines: Vec<&str> = console.lines().map(message).collect();
    let first = lines
        .iter()
        .position(|l| COMPLAINTS.iter().any(|c| l.contains(c)))?;
    let mut text = stable(lines.get(first)?);
    let behind = || lines.iter().skip(first);
    // Where: in the driver, or else the instruction that faulted, if the complaint does not say it.
    let place = behind().find_map(|l| of_driver(l));
    let place = place.or_else(|| behind().find_map(|l| faulted(l)));
    if let Some(place) = place.filter(|p| !text.contains(p)) {
        text = format!("{text} in {place}");
    }
    text.truncate(text.floor_char_boundary(MAX_SIGNATURE));
    Some(text)
}

/// A line without its time.
fn message(line: &str) -> &str {
    let line = line.trim();
    match line.split_once("] ") {
        Some((head, rest)) if head.starts_with('[') => rest,
        _ => line,
    }
}

/// `RIP: 0010:NAME+0x12/0x34`: the name.
fn faulted(line: &str) -> Option<&str> {
    let name = line.split_once("RIP: ")?.1.split_once(':')?.1;
    name.split_once("+0x").map(|(name, _)| name)
}

/// `NAME+0x12/0x34 [mlx5_core]`, as it stands in traces: the name. What a trace is not sure of has a `?`.
fn of_driver(line: &str) -> Option<&str> {
    let (before, _) = line.split_once(" [mlx5_")?;
    let (before, _) = before.rsplit_once("+0x")?;
    let name = before.rsplit([' ', ':']).next()?;
    (!line.trim_start().starts_with('?')).then_some(name)
}

/// A message without numbers that mean nothing in another run.
fn stable(line: &str) -> String {
    let mut before = "";
    let words = line.split_whitespace().filter_map(|word| {
        // "task NAME:PID blocked", "task kworker/u8:1:14 blocked".
        if core::mem::replace(&mut before, word) == "task" {
            return word.split([':', '/']).next();
        }
        let digits = |w: &str| w.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
        let bare = digits(word);
        let hex = bare.len() >= 8 && bare.chars().all(|c| c.is_ascii_hexdigit());
        let address = bare.starts_with("0x") && bare.len() > 6 || word.starts_with("[mlx5");
        let process = ["PID", "CPU", "Comm"].contains(&word.trim_end_matches(':'));
        // A path as of the machine that built the kernel.
        let word = word.find("/drivers/").map_or(word, |at| &word[at + 1..]);
        (!hex && !address && !process).then(|| word.split("+0x").next().unwrap_or(word))
    });
    let mut text = words.collect::<Vec<_>>().join(" ");
    // "WARNING: file:line at function, CPU#1: modprobe/123": the process is not of the bug.
    for end in [", CPU#", " CPU#", "#", " (Tainted"] {
        if let Some((head, _)) = text.split_once(end) {
            text = head.to_owned();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    // Lines as Linux prints them (lib/bug.c, arch/x86/mm/fault.c, lib/refcount.c).
    const OOPS: &str = "\
[   12.345678] mlx5_core 0000:01:00.0: firmware version: 28.43.1014
[   13.000000] BUG: kernel NULL pointer dereference, address: 0000000000000008
[   13.000001] #PF: supervisor read access in kernel mode
[   13.000002] Oops: Oops: 0000 [#1] SMP NOPTI
[   13.000003] RIP: 0010:mlx5_cmd_comp_handler+0x1c2/0x5a0 [mlx5_core]
[   13.000004] Kernel panic - not syncing: Fatal exception";

    const WARNING: &str = "\
[    9.1] ------------[ cut here ]------------
[    9.1] WARNING: drivers/net/ethernet/mellanox/mlx5/core/eq.c:1042 at mlx5_eq_table_create+0x1/0x2 [mlx5_core], CPU#0: kworker/0:1/12
[    9.1] RIP: 0010:mlx5_eq_table_create+0x1/0x2 [mlx5_core]";

    #[test]
    fn the_first_complaint_and_its_place_are_told() {
        assert_eq!(
            signature(OOPS).as_deref(),
            Some("BUG: kernel NULL pointer dereference, address: in mlx5_cmd_comp_handler")
        );
        assert_eq!(
            signature(WARNING).as_deref(),
            Some(
                "WARNING: drivers/net/ethernet/mellanox/mlx5/core/eq.c:1042 at mlx5_eq_table_create"
            )
        );
    }

    // As mm/slub.c prints what slab_debug finds.
    const SLAB: &str = "\
[    3.8] [Right Redzone overwritten] 0xffff8880075d0550-0xffff8880075d0557 @offset=1360. First byte 0x4c instead of 0xcc
[    3.8] BUG kmalloc-8 (Tainted: G           OE      ): Object corrupt
[    3.8] Allocated in give_pages+0xd3/0x8d0 [mlx5_core] age=0 cpu=0 pid=12
[    3.8] RIP: 0010:object_err+0x1e7/0x1f4";

    #[test]
    fn what_is_found_on_behalf_of_the_driver_is_its() {
        assert_eq!(
            signature(SLAB).as_deref(),
            Some("BUG kmalloc-8 in give_pages")
        );
    }

    #[test]
    fn a_task_that_hangs_is_known_by_its_name() {
        for (line, says) in [
            (
                "[ 91.3] INFO: task sh:112 blocked for more than 30 seconds.",
                "sh",
            ),
            (
                "[ 62.4] INFO: task kworker/u8:1:14 blocked for more than 30 seconds.",
                "kworker",
            ),
        ] {
            let want = format!("INFO: task {says} blocked for more than 30 seconds.");
            assert_eq!(signature(line), Some(want));
        }
    }

    #[test]
    fn where_a_kernel_was_built_is_left_out() {
        let line = "[ 9.4] UBSAN: array-index-out-of-bounds in /build/linux-7.3.4/drivers/net/x/fw_tracer.c:226:30";
        assert_eq!(
            signature(line).as_deref(),
            Some("UBSAN: array-index-out-of-bounds in drivers/net/x/fw_tracer.c:226:30")
        );
    }

    #[test]
    fn what_differs_from_run_to_run_is_left_out() {
        let other = OOPS.replace("12.345678", "99.5").replace("0008", "0010");
        assert_eq!(signature(&other), signature(OOPS));
        let other = WARNING.replace("CPU#0: kworker/0:1/12", "CPU#1: modprobe/99");
        assert_eq!(signature(&other), signature(WARNING));
    }

    #[test]
    fn a_driver_may_complain_of_its_device() {
        let fine = "[ 1.0] mlx5_core 0000:01:00.0: mlx5_cmd_out_err:835:(pid 9): QUERY_HCA_CAP(0x100) failed\n\
                    [ 1.1] mlx5_core 0000:01:00.0: probe_one:2074: mlx5_init_one failed with error code -22";
        assert_eq!(signature(fine), None);
        assert_eq!(signature(""), None);
    }
}
