// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Domains and memory: UAR pages, protection and transport domains, memory keys, user memory.

use fwctl_proto::layouts::*;

use super::{CTX_EARLY, object, object_when};
use crate::object::{Bits, Kind, KindId, Limit, mkey, rules};

/// UAR pages.
pub static UAR: Kind = Kind::plain(
    KindId::Uar,
    "uar",
    Bits::of(AllocUarOut::UAR),
    Bits::of(DeallocUarIn::UAR),
    Limit::Uars,
);

/// Protection domains.
pub static PD: Kind = Kind::plain(
    KindId::Pd,
    "pd",
    Bits::of(AllocPdOut::PD),
    Bits::of(DeallocPdIn::PD),
    Limit::Log(CmdHcaCap::LOG_MAX_PD),
);

/// Transport domains.
pub static TRANSPORT_DOMAIN: Kind = Kind::plain(
    KindId::TransportDomain,
    "transport_domain",
    Bits::of(AllocTransportDomainOut::TRANSPORT_DOMAIN),
    Bits::of(DeallocTransportDomainIn::TRANSPORT_DOMAIN),
    Limit::Log(CmdHcaCap::LOG_MAX_TRANSPORT_DOMAIN),
);

/// XRC domains.
pub static XRCD: Kind = Kind::plain(
    KindId::Xrcd,
    "xrcd",
    Bits::of(AllocXrcdOut::XRCD),
    Bits::of(DeallocXrcdIn::XRCD),
    Limit::Log(CmdHcaCap::LOG_MAX_XRCD),
);

/// Memory keys.
pub static MKEY: Kind = Kind {
    context: Some((CTX_EARLY, CTX_EARLY)),
    refs: &[
        object(Bits::within(CTX_EARLY, Mkc::PD), KindId::Pd),
        object_when(mkey::UMEM_ID, KindId::Umem, mkey::UMEM_VALID, 1),
    ],
    ..Kind::plain(
        KindId::Mkey,
        "mkey",
        Bits::of(CreateMkeyOut::MKEY_INDEX),
        Bits::of(DestroyMkeyIn::MKEY_INDEX),
        Limit::Log(CmdHcaCap::LOG_MAX_MKEY),
    )
};

/// User memory: pages that work queues, doorbell records and memory keys lie in.
pub static UMEM: Kind = Kind {
    context: Some((CTX_EARLY, CTX_EARLY)),
    check: rules::umem,
    ..Kind::plain(
        KindId::Umem,
        "umem",
        Bits::of(CreateUmemOut::UMEM_ID),
        Bits::of(DestroyUmemIn::UMEM_ID),
        Limit::Log(CmdHcaCap::LOG_MAX_UMEM),
    )
};
