// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Settings with an effect: set by mstconfig or devlink, in force after a reset, taken back, and gone after
//! another. What each does is in docs/configuration.md; what devlink makes of it is in the driver's
//! lib/nv_param.c.

use std::path::Path;

use fwctl_proto::{
    layout::{Field, View},
    layouts::CmdHcaCap,
};

use crate::{
    check, check_eq, fail, modules,
    rpcs::named,
    suites::{
        mlx5_probe,
        mlx5_reset::{ANNOUNCED, fw_activate},
        mst_config::{mstconfig, next, refuse_permanent, set_permanent, shown, total_vfs},
        programs::{PCI, program_output},
    },
    sysfs,
    test::{APPEAR, Ctx, Done, Suite, find_device, test, wait_for},
};

pub const SUITE: Suite = Suite {
    name: "mst-settings",
    about: "UCTX_EN, ROCE_CONTROL and what devlink sets: in force after a reset",
    subjects: mlx5_probe::SUBJECTS,
    expects: ANNOUNCED,
    tests: &[
        test("devlink-sets-virtual-functions", 400, virtual_functions),
        test("devlink-sets-scalable-functions", 200, scalable_functions),
        test("devlink-sets-the-checksum-mode", 200, checksum_mode),
        test("uctx-en-takes-fwctl-away", 400, user_contexts),
        test("roce-control-takes-the-gids-away", 400, roce),
    ],
};

/// Names of the auxiliary devices that mlx5_core has made of a kind.
fn parts(kind: &str) -> Vec<String> {
    let prefix = format!("mlx5_core.{kind}.");
    let all = sysfs::bus_devices("auxiliary").into_iter();
    all.map(|d| d.name)
        .filter(|n| n.starts_with(&prefix))
        .collect()
}

/// The netdevs of the first function.
fn netdevs() -> Done<Vec<String>> {
    let functions = mlx5_probe::functions()?;
    Ok(functions
        .first()
        .map_or(Vec::new(), |f| sysfs::names(&f.dir().join("net"))))
}

/// The RDMA devices.
fn rdma_devices() -> Vec<String> {
    sysfs::names(Path::new("/sys/class/infiniband"))
}

/// A field of the general capabilities, as QUERY_HCA_CAP has it now.
fn capability(field: Field<CmdHcaCap>) -> Done<u64> {
    let out = named("query_hca_cap.general.cur").send(&find_device(None)?.open()?)?;
    let page = out.get(16..).unwrap_or_default();
    let Some(view) = View::<CmdHcaCap>::new(page) else {
        fail!("{} bytes of capabilities", page.len())
    };
    Ok(view.get(field))
}

/// A parameter is set, the firmware starts with it and `then` looks; then all is taken back, and the
/// firmware starts without it. By PCI address, as fwctl may be gone.
fn with(set: &str, then: impl FnOnce() -> Done) -> Done {
    let pci = Ctx {
        device: Some(PCI.into()),
        ..Ctx::default()
    };
    mstconfig(&pci, &["set", set])?;
    fw_activate()?;
    let done = then();
    mstconfig(&pci, &["reset"])?;
    fw_activate()?;
    mlx5_probe::wait_until_up()?;
    done
}

fn virtual_functions(ctx: &Ctx) -> Done {
    check_eq!(shown("total_vfs")?.as_deref(), Some("0"), "total_vfs");
    check_eq!(
        shown("enable_sriov")?.as_deref(),
        Some("false"),
        "enable_sriov"
    );
    // nv_global_pci_cap.max_vfs_per_pf of the profile.
    refuse_permanent("total_vfs", "128", "Max allowed by device is 127")?;
    set_permanent("total_vfs", "5")?;
    // The function has a number of its own.
    check_eq!(
        next(ctx, "PF_NUM_OF_VF_VALID")?.as_deref(),
        Some("True(1)"),
        "valid"
    );
    check_eq!(next(ctx, "PF_NUM_OF_VF")?.as_deref(), Some("5"), "number");
    check_eq!(
        next(ctx, "NUM_OF_VFS")?.as_deref(),
        Some("0"),
        "the card's number"
    );
    set_permanent("enable_sriov", "true")?;
    check_eq!(
        next(ctx, "SRIOV_EN")?.as_deref(),
        Some("True(1)"),
        "SRIOV_EN"
    );
    check_eq!(total_vfs(ctx)?, 0, "before the reset");
    fw_activate()?;
    mlx5_probe::wait_until_up()?;
    check_eq!(total_vfs(ctx)?, 5, "host_total_vfs");
    // Off for the function, on for the card: the number stays.
    set_permanent("enable_sriov", "false")?;
    check_eq!(next(ctx, "PF_NUM_OF_VF")?.as_deref(), Some("5"), "number");
    check_eq!(total_vfs(ctx)?, 5, "before the reset");
    fw_activate()?;
    mlx5_probe::wait_until_up()?;
    check_eq!(total_vfs(ctx)?, 0, "host_total_vfs");
    mstconfig(ctx, &["reset"])?;
    check_eq!(shown("total_vfs")?.as_deref(), Some("0"), "total_vfs");
    fw_activate()?;
    mlx5_probe::wait_until_up()
}

fn scalable_functions(ctx: &Ctx) -> Done {
    let is = |name: &str, value: &str| -> Done {
        check_eq!(next(ctx, name)?.as_deref(), Some(value), "{name}");
        Ok(())
    };
    check_eq!(shown("max_sfs")?.as_deref(), Some("0"), "max_sfs");
    refuse_permanent("max_sfs", "65536", "Max SFs allowed value is 65535")?;
    set_permanent("max_sfs", "4")?;
    is("PER_PF_NUM_SF", "True(1)")?;
    is("PF_TOTAL_SF", "4")?;
    // MLX5_DEFAULT_LOG_SF_BAR_SIZE.
    is("PF_SF_BAR_SIZE", "12")?;
    // Another function may still have some.
    set_permanent("max_sfs", "0")?;
    is("PER_PF_NUM_SF", "True(1)")?;
    is("PF_TOTAL_SF", "0")?;
    is("PF_SF_BAR_SIZE", "0")?;
    mstconfig(ctx, &["reset"])?;
    is("PER_PF_NUM_SF", "False(0)")
}

fn checksum_mode(ctx: &Ctx) -> Done {
    const NAME: &str = "swp_l4_csum_mode";
    const PARAMETER: &str = "SWP_L4_CHECKSUM_MODE";
    check_eq!(shown(NAME)?.as_deref(), Some("default"), "{NAME}");
    for (value, here) in [("full_csum", "FULL_CSUM(1)"), ("l4_only", "L4_ONLY(2)")] {
        set_permanent(NAME, value)?;
        check_eq!(next(ctx, PARAMETER)?.as_deref(), Some(here), "{PARAMETER}");
    }
    let why = "Invalid value, supported values are full_csum/l4_only";
    refuse_permanent(NAME, "nosuch", why)?;
    mstconfig(ctx, &["reset"])?;
    check_eq!(shown(NAME)?.as_deref(), Some("default"), "{NAME}");
    Ok(())
}

/// `log_max_uctx` of the profile.
const LOG_MAX_UCTX: u64 = 10;

fn user_contexts(_: &Ctx) -> Done {
    let there = || -> Done {
        check_eq!(
            capability(CmdHcaCap::LOG_MAX_UCTX)?,
            LOG_MAX_UCTX,
            "log_max_uctx"
        );
        check_eq!(parts("fwctl").len(), 1, "fwctl devices");
        Ok(())
    };
    there()?;
    with("UCTX_EN=0", || {
        // The rest of the driver is there, and nobody can ask for a context.
        check_eq!(parts("eth").len(), 1, "the Ethernet part");
        check_eq!(parts("fwctl"), [""; 0], "fwctl devices");
        check!(find_device(None).is_err(), "there is a fwctl device");
        Ok(())
    })?;
    there()
}

/// The GIDs of the first port of the only RDMA device.
fn gids() -> Done<Vec<String>> {
    let devices = rdma_devices();
    let [device] = &devices[..] else {
        fail!("RDMA devices: {devices:?}")
    };
    let port = Path::new("/sys/class/infiniband")
        .join(device)
        .join("ports/1");
    Ok(sysfs::names(&port.join("gids")))
}

/// Without RoCE, mlx5_ib has a port for raw packets alone (`raw_eth_profile` in its main.c).
fn roce(_: &Ctx) -> Done {
    let there = || -> Done {
        check_eq!(capability(CmdHcaCap::ROCE)?, 1, "roce");
        wait_for("an RDMA device with GIDs", APPEAR, || {
            let any = rdma_devices().len() == 1 && !gids()?.is_empty();
            Ok(any.then_some(()))
        })?;
        let links = program_output("rdma", &["dev"])?;
        check!(links.contains("protocol roce"), "{links}");
        Ok(())
    };
    modules::load("mlx5_ib")?;
    there()?;
    let gone = with("ROCE_CONTROL=ROCE_DISABLE", || {
        check_eq!(capability(CmdHcaCap::ROCE)?, 0, "roce");
        check_eq!(netdevs()?.len(), 1, "netdevs");
        check_eq!(gids()?, [""; 0], "GIDs");
        let links = program_output("rdma", &["dev"])?;
        check!(!links.contains("protocol"), "{links}");
        Ok(())
    });
    let back = there();
    modules::unload("mlx5_ib")?;
    gone.and(back)
}

/// The type of the port. The firmware must not start with another one under a driver that is loaded:
/// Linux 7.3.4 frees `steering->root_ns` and keeps the pointer (mlx5_fs_core_cleanup), makes none for an
/// InfiniBand port, and frees it again when it is unloaded. So a new guest finds the port.
pub const LINK_TYPE: Suite = Suite {
    name: "mst-link-type",
    about: "LINK_TYPE: set, in force for a driver that comes after the reset, taken back",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("is-ethernet", 120, is_ethernet),
        test("set", 120, set_infiniband),
        test("is-infiniband", 120, is_infiniband),
        test("taken-back", 120, set_back),
    ],
};

/// `port_type`: InfiniBand, Ethernet (MLX5_CAP_PORT_TYPE_* of the driver's device.h).
const INFINIBAND: u64 = 0;
const ETHERNET: u64 = 1;

fn is_ethernet(_: &Ctx) -> Done {
    check_eq!(capability(CmdHcaCap::PORT_TYPE)?, ETHERNET, "port_type");
    check_eq!(parts("eth").len(), 1, "Ethernet parts");
    check_eq!(netdevs()?.len(), 1, "netdevs");
    Ok(())
}

fn set_infiniband(ctx: &Ctx) -> Done {
    mstconfig(ctx, &["set", "LINK_TYPE_P1=IB"])?;
    check_eq!(
        next(ctx, "LINK_TYPE_P1")?.as_deref(),
        Some("IB(1)"),
        "LINK_TYPE_P1"
    );
    is_ethernet(ctx)
}

fn is_infiniband(_: &Ctx) -> Done {
    check_eq!(capability(CmdHcaCap::PORT_TYPE)?, INFINIBAND, "port_type");
    check_eq!(parts("eth"), [""; 0], "Ethernet parts");
    check_eq!(netdevs()?, [""; 0], "netdevs");
    Ok(())
}

fn set_back(ctx: &Ctx) -> Done {
    mstconfig(ctx, &["reset"])?;
    check_eq!(
        next(ctx, "LINK_TYPE_P1")?.as_deref(),
        Some("ETH(2)"),
        "LINK_TYPE_P1"
    );
    is_infiniband(ctx)
}
