// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The vendor's unmodified tools by PCI address, through the gateway in configuration space.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    process::{Command, Stdio},
};

use fwctl_proto::opcode;
use fwctl_uapi::{Scope, mlx5};

use crate::{
    check, check_eq, fail,
    rpcs::named,
    suites::{
        mlx5_probe,
        mlx5_reload::{back, replies},
        mlx5_reset::ANNOUNCED,
        mst_flash, mst_fwctl, mst_registers,
        programs::{bdf, program, program_output, run_program, tool_version},
    },
    test::{APPEAR, Ctx, Done, Suite, find_device, test, wait_for, write_file},
};

pub const SUITE: Suite = Suite {
    name: "mst-pci",
    about: "mstmread, mstmwrite, mstmcra, mstvpd, mstfwtrace, mstreg and mstconfig by PCI address",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("mstmread-shows-the-chip", 60, chip),
        test("mstmwrite-and-mstmcra-agree", 60, words),
        test("mstreg-over-pci", 60, register),
        test("mstvpd-and-devlink-show-the-board", 60, board),
        test(
            "mstfwtrace-shows-what-the-firmware-does",
            60,
            firmware_trace,
        ),
        test(
            "a-dead-holder-of-the-gateway-is-passed-over",
            60,
            dead_holder,
        ),
        test(
            "a-dead-holder-of-the-command-mailbox-is-passed-over",
            60,
            dead_icmd_holder,
        ),
        test("mstconfig-sets-over-pci-what-fwctl-shows", 300, config),
        test("hosts-agree-on-a-reset", 60, hosts_agree),
    ],
};

/// The steps that mstfwreset takes on a card with one host, by its own library.
const HOST_SYNC: &str = r#"
import sys
sys.path.insert(0, "/usr/lib/x86_64-linux-gnu/mstflint/python_tools")
import mtcr, cmdif
card = cmdif.CmdIf(mtcr.MstDevice(sys.argv[1]))
def show(s):
    print(s.state, s.sync_type, s.ignore_inactive_host, s.host_ready)
print(card.isMultiHostSyncSupported() != 0)
show(card.multiHostSyncStatus())
for step, ignore in (1, 1), (1, 0), (2, 0):
    show(card.multiHostSync(step, 1, ignore))
try:
    card.multiHostSync(1, 1)
except cmdif.CmdIfException as e:
    print(e)
show(card.multiHostSyncStatus())
"#;

fn hosts_agree(_: &Ctx) -> Done {
    let card = bdf()?;
    // State, type, whether hosts that are off are passed over, hosts that are waited for.
    let steps = [
        "True",
        "0 0 0 0",
        "1 1 1 1",
        "2 1 1 1",
        "2 1 1 0",
        "Failed to run multi host icmd: command interface bad param (4)",
        "2 1 1 0",
    ];
    let said = program_output("python3", &["-c", HOST_SYNC, &card])?;
    check_eq!(said.lines().collect::<Vec<_>>(), steps, "what it says");
    program_output("mstfwreset", &["-d", &card, "reset_fsm_register"])?;
    let status = HOST_SYNC.replace("(1, 1), (1, 0), (2, 0)", "()");
    let said = program_output("python3", &["-c", &status, &card])?;
    check_eq!(said.lines().nth(1), Some("0 0 0 0"), "after {said}");
    program_output("mstfwreset", &["-d", &card, "reset_fsm_register"])?;
    Ok(())
}

/// What takes minutes: the tool reads 230,590 words, one by one.
pub const DUMP: Suite = Suite {
    name: "mst-regdump",
    about: "mstregdump of the whole device",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[test("mstregdump-reads-every-word", 600, regdump)],
};

fn chip(_: &Ctx) -> Done {
    shows_the_chip()
}

fn shows_the_chip() -> Done {
    // Its exit code is the number of bytes that it read.
    let (_, text) = program("mstmread", &[&bdf()?, "0xf0014"])?;
    check_eq!(text.trim(), "Read 0x000f0014:0x00000218", "ConnectX-7");
    Ok(())
}

fn board(_: &Ctx) -> Done {
    let bdf = bdf()?;
    let text = program_output("mstvpd", &[&bdf])?;
    // Of the profile: its description, its PSID, its first MAC address.
    for line in [
        "ID: ConnectX-7-like: one Ethernet port, user contexts with tools resources",
        "PN: EMU-0000000007",
        "SN: EMU02C907000000",
    ] {
        let spaces = |l: &str| {
            l.split_whitespace().collect::<Vec<_>>() == line.split_whitespace().collect::<Vec<_>>()
        };
        check!(text.lines().any(spaces), "no {line}: {text}");
    }
    let text = program_output("devlink", &["dev", "info", &format!("pci/{bdf}")])?;
    check!(
        text.contains("board.serial_number EMU02C907000000"),
        "{text}"
    );
    Ok(())
}

/// mstfwtrace follows what mlx5_core's tracepoint says; it ends with the test.
fn firmware_trace(_: &Ctx) -> Done {
    const FILE: &str = "/tmp/mstfwtrace";
    write_file("/sys/kernel/tracing/events/mlx5/mlx5_fw/enable", "1")?;
    // Class CMD_DRIVER, all levels; SET_ITRACE goes through the gateway.
    let bdf = bdf()?;
    let args = [
        "-d",
        &bdf,
        "-s",
        "--ignore_old_events",
        "-m",
        "CMD_DRIVER",
        "-l",
        "0",
    ];
    let mut tool = Command::new("mstfwtrace")
        .args(args)
        .stdin(Stdio::null())
        .stdout(File::create(FILE)?)
        .spawn()?;
    let shown = |what: &'static str| {
        wait_for(what, APPEAR, move || {
            Ok(fs::read_to_string(FILE)?.contains(what).then_some(()))
        })
    };
    let seen = shown("Read new events:").and_then(|()| {
        named("access_reg.mcam").send(&find_device(None)?.open()?)?;
        shown("[0x10] ACCESS_REG op_mod 0x1 uid ")
    });
    tool.kill()?;
    tool.wait()?;
    seen
}

fn words(_: &Ctx) -> Done {
    let bdf = bdf()?;
    program("mstmwrite", &[&bdf, "0x100000", "0x12345678"])?;
    let word = || program_output("mstmcra", &[&bdf, "0x100000"]);
    check_eq!(word()?.trim(), "0x12345678", "a word");
    // Eight bits from bit 4 on.
    program_output("mstmcra", &[&bdf, "0x100000.4:8", "0xab"])?;
    check_eq!(word()?.trim(), "0x12345ab8", "a field in it");
    Ok(())
}

fn register(_: &Ctx) -> Done {
    let bdf = bdf()?;
    let args = ["-d", &bdf, "--reg_name", "MGIR", "--get"];
    let text = program_output("mstreg", &args)?;
    for (name, value) in [("device_id", 0x1021), ("hw_dev_id", 0x218)] {
        check_eq!(mst_fwctl::field(&text, name), Some(value), "{name}");
    }
    let args = ["-d", &bdf, "--reg_id", "0x9999", "--reg_len", "16", "--get"];
    let (ok, text) = program("mstreg", &args)?;
    check!(!ok && text.contains("Register not supported"), "{text}");
    Ok(())
}

/// Registers of the capability, from its start.
const CONTROL: u64 = 0x04;
const COUNTER: u64 = 0x08;
const SEMAPHORE: u64 = 0x0c;
const ADDRESS: u64 = 0x10;
const DATA: u64 = 0x14;

/// Where the vendor-specific capability lies.
fn capability(config: &File) -> Done<u64> {
    let mut at = [0; 1];
    config.read_exact_at(&mut at, 0x34)?;
    for _ in 0..48 {
        let mut head = [0; 2];
        config.read_exact_at(&mut head, u64::from(at[0]))?;
        if head[0] == 9 {
            return Ok(u64::from(at[0]));
        }
        at[0] = head[1];
    }
    fail!("no vendor-specific capability")
}

/// The gateway's registers, in the function's configuration space.
struct Gateway {
    config: File,
    at: u64,
}

impl Gateway {
    fn open() -> Done<Self> {
        let path = format!("/sys/bus/pci/devices/{}/config", bdf()?);
        let config = OpenOptions::new().read(true).write(true).open(path)?;
        let at = capability(&config)?;
        Ok(Self { config, at })
    }

    fn read(&self, offset: u64) -> Done<u32> {
        let mut b = [0; 4];
        self.config.read_exact_at(&mut b, self.at + offset)?;
        Ok(u32::from_le_bytes(b))
    }

    fn write(&self, offset: u64, value: u32) -> Done {
        self.config
            .write_all_at(&value.to_le_bytes(), self.at + offset)?;
        Ok(())
    }

    /// Takes the gateway by its ticket.
    fn take(&self) -> Done {
        let ticket = self.read(COUNTER)?;
        self.write(SEMAPHORE, ticket)?;
        check_eq!(self.read(SEMAPHORE)?, ticket, "the semaphore is ours");
        Ok(())
    }
}

fn dead_holder(_: &Ctx) -> Done {
    Gateway::open()?.take()?;
    // And nobody frees it.
    shows_the_chip()
}

/// A process takes the semaphore of the command mailbox, as the tools do by its pid, and dies.
fn dead_icmd_holder(_: &Ctx) -> Done {
    let mut holder = Command::new("sleep").arg("600").spawn()?;
    let pid = holder.id();
    let taken = take_icmd(pid);
    holder.kill()?;
    holder.wait()?;
    taken?;
    // Through the mailbox, which needs the semaphore.
    let args = ["-d", &bdf()?, "--reg_name", "MGIR", "--get"];
    let text = program_output("mstreg", &args)?;
    check_eq!(mst_fwctl::field(&text, "device_id"), Some(0x1021), "MGIR");
    Ok(())
}

/// Writes a pid to the first dword of the semaphores' space and sees that it is taken.
fn take_icmd(pid: u32) -> Done {
    /// The semaphores' space, its first dword, and what says that an address is to be written.
    const SPACE: u32 = 0xa;
    const ICMD: u32 = 0;
    const WRITE: u32 = 1 << 31;
    let g = Gateway::open()?;
    g.take()?;
    let space = g.read(CONTROL)? & 0xffff;
    g.write(CONTROL, SPACE)?;
    g.write(DATA, pid)?;
    g.write(ADDRESS, ICMD | WRITE)?;
    check_eq!(g.read(ADDRESS)? & WRITE, 0, "the write is done");
    g.write(ADDRESS, ICMD)?;
    check_eq!(g.read(ADDRESS)? & WRITE, WRITE, "the read is done");
    let held = g.read(DATA)?;
    g.write(CONTROL, space)?;
    g.write(SEMAPHORE, 0)?;
    check_eq!(held, pid, "who has the command mailbox");
    Ok(())
}

/// The next-boot value of `nv_global_pci_conf.total_vfs`, by MNVDA over fwctl: not every version of the
/// tools knows the way.
fn next_over_fwctl() -> Done<u16> {
    /// The register, what is before an item's data in it, and the item.
    const MNVDA: u16 = 0x9024;
    const MNVDA_BYTES: usize = 268;
    const DATA: usize = 12;
    const GLOBAL_PCI: u32 = 0x80;
    let mut inbox = mlx5::inbox(opcode::ACCESS_REG, 1, mlx5::HEADER + MNVDA_BYTES);
    inbox[10..12].copy_from_slice(&MNVDA.to_be_bytes());
    inbox[mlx5::HEADER + 4..][..4].copy_from_slice(&GLOBAL_PCI.to_be_bytes());
    let mut out = vec![0; inbox.len()];
    let device = find_device(None)?.open()?;
    device.rpc(Scope::DebugReadOnly, &inbox, &mut out)?;
    check!(mlx5::status(&out)?.is_ok(), "{}", mlx5::status(&out)?);
    // The lower half of the second dword.
    let at = mlx5::HEADER + DATA + 6;
    Ok(u16::from_be_bytes([out[at], out[at + 1]]))
}

fn config(_: &Ctx) -> Done {
    let bdf = bdf()?;
    let next = || -> Done<Option<String>> {
        let text = program_output("mstconfig", &["-d", &bdf, "q", "NUM_OF_VFS"])?;
        let line = text.lines().find(|l| l.contains("NUM_OF_VFS"));
        Ok(line.and_then(|l| l.split_whitespace().last().map(str::to_owned)))
    };
    program_output("mstconfig", &["-y", "-d", &bdf, "set", "NUM_OF_VFS=5"])?;
    check_eq!(next()?.as_deref(), Some("5"), "over PCI");
    check_eq!(next_over_fwctl()?, 5, "over fwctl");
    program_output("mstconfig", &["-y", "-d", &bdf, "reset"])?;
    check_eq!(next_over_fwctl()?, 0, "after the reset");
    Ok(())
}

fn regdump(ctx: &Ctx) -> Done {
    let text = program_output("mstregdump", &[&bdf()?])?;
    let words = text.lines().filter(|l| l.starts_with("0x")).count();
    ctx.note(format!("{words} words"));
    // The second column of ConnectX7.csv of mstflint 4.33, added up.
    if tool_version()? == mst_registers::VERSION {
        check_eq!(words, 230_590, "words");
    }
    check!(words > 50_000, "too few: {words}");
    check!(
        text.lines().any(|l| l == "0x000f0014 0x00000218"),
        "no device id"
    );
    Ok(())
}

/// With a processor that does not say that it is virtual: the tool refuses there.
pub const RESET: Suite = Suite {
    name: "mst-reset",
    about: "mstfwreset: what can be asked for, and a reset that the driver takes part in",
    subjects: mlx5_probe::SUBJECTS,
    expects: ANNOUNCED,
    tests: &[
        test("mstfwreset-query", 60, reset_query),
        test("mstfwreset-reset", 180, reset),
    ],
};

fn reset_query(_: &Ctx) -> Done {
    let text = program_output("mstfwreset", &["-d", &bdf()?, "q"])?;
    // MFRL: levels 3 and 6, type 0; MROQ: the driver is asked.
    for (line, supported) in [
        ("0: Driver, PCI link, network link", false),
        ("3: Driver restart and PCI reset", true),
        ("4: Warm Reboot", true),
        ("0: Full chip reset", true),
        ("1: Phy-less reset", false),
        ("0: Tool is the owner", false),
    ] {
        let shown = text.lines().find(|l| l.starts_with(line));
        let says = shown.map(|l| l.contains("-Supported"));
        check_eq!(says, Some(supported), "{line}");
    }
    let shown = text.lines().find(|l| l.contains("Driver is the owner"));
    check!(shown.is_some_and(|l| l.contains("-Supported")), "{text}");
    Ok(())
}

fn reset(ctx: &Ctx) -> Done {
    let before = replies()?;
    let text = run_program(ctx, "mstfwreset", &["-y", "-d", &bdf()?, "reset"])?;
    check!(text.contains("FW was loaded successfully"), "{text}");
    // Suite mst-flash has burnt it.
    mst_flash::expect(mst_flash::FROM_MSTFLINT, mst_flash::FROM_MSTFLINT)?;
    back(&before)
}
