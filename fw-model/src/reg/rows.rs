// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The register table.

use fwctl_proto::{
    layout::Layout as _,
    layouts::{
        CoreDumpReg, DcbxParam, DtorReg, McamReg, MccReg, McdaReg, MciaReg, McqiReg, McqsReg,
        MfrlReg, MircReg, MlcrReg, MpcntReg, MpeinReg, MpirReg, MrtcReg, MtcapReg, MtmpReg,
        MtrcCap, MtrcConf, MtrcCtrl, MtrcStdb, PaosReg, PcamReg, PcapReg, PcmrReg, PddrReg,
        PfccReg, PmaosReg, PmlpReg, PmtuReg, PpcntReg, PplmReg, PplrReg, PtysReg, PvlcReg, QcamReg,
        QetcReg, QpdpmReg, QptsReg, QtctReg, ResourceDump,
    },
    register as id,
};

use super::{
    Register, clock, components, flash, identity, masks, module, nvda, pddr, ports, qos, reset,
    resource_dump, thermal, tracer, update,
};

/// Bytes of HOST_ENDIANNESS (`struct mlx5_reg_host_endianness`).
const HOST_ENDIANNESS_BYTES: usize = 16;
/// Bytes of NODE_DESC (`IB_DEVICE_NODE_DESC_MAX`).
const NODE_DESC_BYTES: usize = 64;

/// The one port of a function; 0 names it as well.
const PORT: &[(&str, u64)] = &[("local_port", 1)];
const PORT_NUMBER: &[(&str, u64)] = &[("port_number", 1)];
/// Groups of features and registers in the registers that say what there is.
const GROUPS: &[(&str, u64)] = &[("feature_group", 3), ("access_reg_group", 3)];

/// Every register that the firmware knows, by id.
pub static REGISTERS: &[Register] = &[
    Register::of::<QptsReg>(id::QPTS)
        .index(PORT)
        .writable(&["trust_state"])
        .write(qos::write_trust),
    Register::of::<QetcReg>(id::QETCR)
        .index(PORT_NUMBER)
        .writable(&["tc_configuration", "global_configuration"]),
    Register::of::<QtctReg>(id::QTCT)
        .index(&[("port_number", 1), ("prio", 7)])
        .writable(&["tclass"]),
    Register::of::<QpdpmReg>(id::QPDPM)
        .index(PORT)
        .write(qos::write_dscp)
        .kept(),
    Register::of::<QcamReg>(id::QCAM)
        .index(GROUPS)
        .read(masks::read_qcam),
    Register::of::<DcbxParam>(id::DCBX_PARAM)
        .index(PORT_NUMBER)
        .writable(&[
            "version_admin",
            "willing_admin",
            "pfc_cap_admin",
            "num_of_tc_admin",
        ]),
    Register::new(update::MLOCK, None, update::MLOCK_BYTES).named("MLOCK"),
    Register::of::<CoreDumpReg>(id::CORE_DUMP).write(tracer::write_core_dump),
    Register::of::<PcapReg>(id::PCAP).index(PORT),
    Register::of::<PmlpReg>(id::PMLP)
        .index(PORT)
        .read(module::read_pmlp),
    Register::of::<PmtuReg>(id::PMTU)
        .index(PORT)
        .writable(&["admin_mtu"])
        .read(ports::read_pmtu)
        .write(ports::write_pmtu),
    Register::of::<PtysReg>(id::PTYS)
        .index(PORT)
        .echo(&["proto_mask"])
        .writable(&["eth_proto_admin", "ext_eth_proto_admin", "an_disable_admin"])
        .read(ports::read_ptys)
        .write(ports::write_ptys),
    Register::of::<PaosReg>(id::PAOS)
        .index(PORT)
        .read(ports::read_paos)
        .write(ports::write_paos)
        .kept(),
    Register::of::<PfccReg>(id::PFCC).index(PORT).writable(&[
        "ppan_mask_n",
        "minor_stall_mask",
        "critical_stall_mask",
        "prio_mask_tx",
        "prio_mask_rx",
        "pptx",
        "pfctx",
        "pprx",
        "pfcrx",
        "device_stall_minor_watermark",
        "device_stall_critical_watermark",
    ]),
    Register::of::<PpcntReg>(id::PPCNT)
        .index(PORT)
        .echo(&["grp", "prio_tc"])
        .write(ports::clear_ppcnt),
    Register::of::<PvlcReg>(id::PVLC)
        .index(PORT)
        .writable(&["vl_admin"]),
    Register::of::<PmaosReg>(id::PMAOS)
        .index(&[("module", 15)])
        .writable(&["e"])
        .read(module::read_pmaos),
    Register::of::<PplrReg>(ports::PPLR)
        .index(PORT)
        .writable(&["lb_en"])
        .write(ports::write_pplr),
    Register::of::<PplmReg>(id::PPLM)
        .index(PORT)
        .writable(&[
            "fec_override_admin_10g_40g",
            "fec_override_admin_25g",
            "fec_override_admin_50g",
            "fec_override_admin_100g",
            "fec_override_admin_56g",
            "fec_override_admin_50g_1x",
            "fec_override_admin_100g_2x",
            "fec_override_admin_200g_4x",
            "fec_override_admin_400g_8x",
            "fec_override_admin_100g_1x",
            "fec_override_admin_200g_2x",
            "fec_override_admin_400g_4x",
            "fec_override_admin_800g_8x",
        ])
        .write(ports::write_pplm),
    Register::of::<PddrReg>(id::PDDR)
        .index(PORT)
        .echo(&["pnat", "page_select"])
        .read(pddr::read),
    Register::of::<PcmrReg>(id::PCMR)
        .index(PORT)
        .writable(&["fcs_chk", "rx_ts_over_crc"])
        .write(ports::write_pcmr),
    Register::of::<PcamReg>(id::PCAM)
        .index(GROUPS)
        .read(masks::read_pcam),
    Register::new(id::NODE_DESC, None, NODE_DESC_BYTES)
        .write(keep_all)
        .kept(),
    Register::new(id::HOST_ENDIANNESS, None, HOST_ENDIANNESS_BYTES)
        .write(keep_all)
        .kept(),
    Register::of::<MtcapReg>(id::MTCAP).read(thermal::read_mtcap),
    Register::of::<MtmpReg>(id::MTMP)
        .index(&[("sensor_index", thermal::LAST_SENSOR)])
        .writable(&["mte", "tee", "temp_threshold_hi", "temp_threshold_lo"])
        .read(thermal::read_mtmp)
        .write(thermal::write_mtmp),
    Register::new(flash::MFPA, None, flash::MFPA_BYTES).read(flash::read_mfpa),
    Register::new(flash::MFBA, None, flash::MFBA_BYTES)
        .read(flash::read_mfba)
        .write(flash::write_mfba),
    Register::new(flash::MFBE, None, flash::MFBE_BYTES).write(flash::write_mfbe),
    Register::of::<MciaReg>(id::MCIA)
        .index(&[("module", 15)])
        .echo(&[
            "i2c_device_address",
            "page_number",
            "device_address",
            "size",
        ])
        .read(module::read_mcia),
    Register::new(identity::MGIR, None, identity::MGIR_BYTES).read(identity::read_mgir),
    Register::new(id::MNVDA, None, nvda::MNVDA_BYTES)
        .read(nvda::read)
        .write(nvda::write),
    Register::new(nvda::MNVDI, None, nvda::MNVDI_BYTES).write(nvda::invalidate),
    Register::of::<MfrlReg>(id::MFRL)
        .read(reset::read)
        .write(reset::write),
    Register::new(flash::MFAI, None, flash::MFAI_BYTES)
        .named("MFAI")
        .write(flash::write_mfai),
    Register::of::<MlcrReg>(id::MLCR)
        .index(PORT)
        .writable(&["beacon_duration"])
        .read(ports::read_mlcr),
    Register::of::<MrtcReg>(id::MRTC)
        .read(clock::read)
        .write(clock::write),
    Register::new(reset::MROQ, None, reset::MROQ_BYTES).read(reset::read_mroq),
    Register::new(nvda::MNVQC, None, nvda::MNVQC_BYTES).read(nvda::capabilities),
    Register::new(nvda::MNVIA, None, nvda::MNVIA_BYTES).write(nvda::invalidate_all),
    Register::new(nvda::MNVGC, None, nvda::MNVGC_BYTES).read(nvda::modes),
    Register::new(nvda::MNVGN, None, nvda::MNVGN_BYTES).read(nvda::next_item),
    Register::of::<MtrcCap>(id::MTRC_CAP)
        .read(tracer::read_cap)
        .write(tracer::write_cap),
    Register::of::<MtrcConf>(id::MTRC_CONF)
        .read(tracer::read_conf)
        .write(tracer::write_conf),
    Register::new(id::MTRC_STDB, Some(MtrcStdb::INFO), tracer::STDB_BYTES)
        .echo(&["string_db_index", "read_size", "start_offset"])
        .read(tracer::strings)
        .write(tracer::strings),
    Register::of::<MtrcCtrl>(id::MTRC_CTRL)
        .read(tracer::read_ctrl)
        .write(tracer::write_ctrl),
    // One link, to the host.
    Register::of::<MpeinReg>(id::MPEIN)
        .index(&[("depth", 0), ("pcie_index", 0), ("node", 0)])
        .read(identity::read_mpein),
    Register::of::<MpcntReg>(id::MPCNT).echo(&["pcie_index", "grp"]),
    Register::of::<MpirReg>(id::MPIR).index(PORT),
    Register::of::<McqsReg>(id::MCQS)
        .index(&[("component_index", components::LAST)])
        .read(components::read_mcqs),
    Register::new(id::MCQI, Some(McqiReg::INFO), components::MCQI_BYTES)
        .index(&[("component_index", components::LAST)])
        .echo(&["read_pending_component", "info_type", "offset"])
        .read(components::read_mcqi),
    Register::of::<MccReg>(id::MCC)
        .read(update::read_mcc)
        .write(update::write_mcc),
    Register::new(id::MCDA, Some(McdaReg::INFO), update::MCDA_BYTES)
        .read(update::read_mcda)
        .write(update::write_mcda),
    Register::new(identity::MQIS, None, identity::MQIS_BYTES).read(identity::read_mqis),
    Register::of::<McamReg>(id::MCAM)
        .index(GROUPS)
        .read(masks::read_mcam),
    // mstflint reads with a second access how the first one went.
    Register::of::<MircReg>(id::MIRC)
        .kept()
        .write(update::write_mirc),
    Register::of::<ResourceDump>(id::RESOURCE_DUMP)
        .read(resource_dump::next)
        .write(resource_dump::write),
    Register::of::<DtorReg>(id::DTOR),
];

impl Register {
    const fn kept(mut self) -> Self {
        self.kept = true;
        self
    }
}

/// A register without known fields: all of it is taken.
#[allow(clippy::unnecessary_wraps)]
fn keep_all(_: &mut crate::cmd::Ctx<'_>, given: &[u8], image: &mut [u8]) -> crate::cmd::Done {
    for (to, from) in image.iter_mut().zip(given) {
        *to = *from;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order_and_name_fields_that_there_are() {
        assert!(REGISTERS.is_sorted_by(|a, b| a.id < b.id));
        for r in REGISTERS {
            let indices = r.index.iter().map(|i| &i.0);
            for name in indices.chain(r.echo).chain(r.writable) {
                assert!(r.place(name).is_some(), "{:#06x} has no {name}", r.id);
            }
        }
    }
}
