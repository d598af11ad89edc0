// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Resource dumps by two readers: mstresourcedump takes them inline, out of the register, and the
//! kernel's mlx5_ib (restrack.c) through memory that it names with an mkey, for `rdma --raw`.

use std::path::Path;

use crate::{
    check, check_eq, fail, modules,
    suites::{
        mlx5_probe,
        programs::{is_old, program, program_output, tool_device},
    },
    sysfs,
    test::{APPEAR, Ctx, Done, Suite, test, wait_for},
};

pub const SUITE: Suite = Suite {
    name: "mst-dump",
    about: "the tool's resource dump inline, and the kernel's through memory, are the same bytes",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("mlx5-ib-loads", 120, loads),
        test("the-kernel-dumps-queues-through-memory", 120, same),
        test("mstresourcedump-is-built-without-memory", 60, not_built),
        test("mlx5-ib-unloads", 120, unloads),
    ],
};

/// The RDMA device of the first function.
const DEVICE: &str = "mlx5_0";
/// Bytes of the segments of a dump of one completion queue: information, command, the queue (16 bytes
/// of head, QUERY_CQ's outbox behind its status) and the end.
const SEGMENTS: [usize; 4] = [16, 20, 16 + 272 - 8, 4];
/// Where the command has its first index.
const INDEX1: usize = SEGMENTS[0] + 8;

fn loads(_: &Ctx) -> Done {
    modules::load("mlx5_ib")?;
    wait_for("the RDMA device", APPEAR, || {
        let devices = sysfs::names(Path::new("/sys/class/infiniband"));
        Ok(devices.iter().any(|d| d == DEVICE).then_some(()))
    })
}

/// What the kernel has of each of its completion queues, which `rdma` prints as `"data":[0,4,…]`.
fn by_kernel() -> Done<Vec<Vec<u8>>> {
    let text = program_output("rdma", &["-r", "-j", "resource", "show", "cq"])?;
    let list = |part: &str| {
        let (list, _) = part.split_once(']')?;
        list.split(',').map(|n| n.trim().parse().ok()).collect()
    };
    let dumps: Option<Vec<_>> = text.split(r#""data":["#).skip(1).map(list).collect();
    match dumps {
        Some(dumps) if !dumps.is_empty() => Ok(dumps),
        _ => fail!("{text}"),
    }
}

/// The same of one of them by mstresourcedump, which prints dwords as 0x0004FFFE.
fn by_tool(ctx: &Ctx, index: u32) -> Done<Vec<u8>> {
    let (device, index) = (tool_device(ctx)?, index.to_string());
    let queue = ["--segment", "PRM_QUERY_CQ", "--index1", &index];
    let args = [
        &["dump", "-d", &device][..],
        &queue,
        &["--num-of-obj1", "1"],
    ]
    .concat();
    let text = program_output("mstresourcedump", &args)?;
    let lines = text.lines().filter(|l| l.starts_with("0x"));
    let dwords = lines.flat_map(str::split_whitespace);
    let dwords = dwords.map(|d| u32::from_str_radix(d.trim_start_matches("0x"), 16));
    match dwords.collect::<Result<Vec<_>, _>>() {
        Ok(dwords) => Ok(dwords.iter().flat_map(|d| d.to_be_bytes()).collect()),
        Err(_) => fail!("{text}"),
    }
}

fn same(ctx: &Ctx) -> Done {
    let dumps = by_kernel()?;
    for dump in &dumps {
        check_eq!(dump.len(), SEGMENTS.iter().sum::<usize>(), "bytes");
        let index = dump[INDEX1..].first_chunk().copied();
        let index = index.map_or(0, u32::from_be_bytes);
        check_eq!(by_tool(ctx, index)?, *dump, "queue {index}");
    }
    ctx.note(format!("{} completion queues", dumps.len()));
    Ok(())
}

/// `--mem` needs libibverbs, which Debian's package is built without (NO_RDMEM): the day that it is
/// not, this says so.
fn not_built(ctx: &Ctx) -> Done {
    let device = tool_device(ctx)?;
    let (ok, text) = program(
        "mstresourcedump",
        &["query", "-d", &device, "--mem", DEVICE],
    )?;
    let said = if is_old()? {
        "Mem Mode is either not supported for this OS"
    } else {
        "Mem Mode is not supported"
    };
    check!(!ok && text.contains(said), "{text}");
    Ok(())
}

fn unloads(_: &Ctx) -> Done {
    modules::unload("mlx5_ib").map(drop)
}
