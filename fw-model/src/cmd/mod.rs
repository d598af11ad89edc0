// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Command handlers, a file per family, and what a handler is given.

pub mod caps;
pub mod diagnostics;
pub mod eq;
pub mod hca_vport;
pub mod lifecycle;
pub mod misc;
pub mod pages;
pub mod receive;
pub mod steering;
pub mod tables;
pub mod uctx;
pub mod vport;

use fwctl_proto::{
    layout::{Field, Layout, View, ViewMut},
    layouts::CmdHcaCap,
};

use crate::{
    FunctionId, GuestMemory,
    card::Shared,
    function::{
        Function,
        uctx::{CallerKind, SHARED_UID},
    },
    profile::{CAP_GENERAL, Profile},
    store::Batch,
    syndrome::{Refusal, Syndrome},
    time::Time,
};

/// What a handler works on. The checks that hold for all commands are done.
pub struct Ctx<'a> {
    /// The function that the command is for.
    pub f: &'a mut Function,
    /// The card's other functions.
    pub others: Others<'a>,
    /// What the functions of the card share.
    pub shared: &'a mut Shared,
    /// The card's profile.
    pub profile: &'a Profile,
    /// When the command came.
    pub now: Time,
    /// Who sent it.
    pub caller: CallerKind,
    /// The uid in the header.
    pub uid: u16,
    /// `op_mod` in the header.
    pub op_mod: u16,
    /// The inbox.
    pub inbox: &'a [u8],
    /// Bytes of the outbox.
    pub out_len: usize,
    /// Changes that must be stored before the command is answered.
    pub batch: Batch,
    /// The memory of the guest that the command came from.
    pub mem: &'a dyn GuestMemory,
    /// The answer waits until the drivers agree on a reset of the firmware.
    pub held: bool,
    /// It came through the PCI gateway, which works without a driver.
    pub gateway: bool,
    /// Guest memory to write before the answer.
    pub writes: Vec<(u64, Vec<u8>)>,
    /// Guest pages to put the firmware's mark on.
    pub marks: Vec<u64>,
}

/// The functions of a card but one.
pub struct Others<'a> {
    /// Those before it.
    pub before: &'a mut [Function],
    /// Those behind it.
    pub behind: &'a mut [Function],
}

impl Others<'_> {
    /// Functions of the card, with the one that these are the others of.
    #[must_use]
    pub fn functions(&self) -> usize {
        self.before.len() + 1 + self.behind.len()
    }

    /// One of them.
    pub fn get_mut(&mut self, id: FunctionId) -> Option<&mut Function> {
        let all = self.before.iter_mut().chain(self.behind.iter_mut());
        all.into_iter().find(|f| f.id == id)
    }
}

/// A handler's result; on `Err` nothing was changed and the outbox carries the refusal alone.
pub type Done = Result<(), Refusal>;

/// A handler: reads the inbox from its [`Ctx`], fills `out`, which is zeroed and at least as long
/// as the command's table row says.
pub type Handler = fn(&mut Ctx<'_>, out: &mut [u8]) -> Done;

impl Ctx<'_> {
    /// Refuses a function id or vhca id that is not the caller's own function.
    ///
    /// # Errors
    /// [`Syndrome::OtherFunction`].
    pub fn own_function(&self, function_id: u64) -> Done {
        if function_id == 0 {
            Ok(())
        } else {
            Err(Syndrome::OtherFunction.into())
        }
    }

    /// A field of the general capability page in force; 0 if the profile has none.
    #[must_use]
    pub fn general_cap(&self, field: Field<CmdHcaCap>) -> u64 {
        self.cap_view::<CmdHcaCap>(CAP_GENERAL)
            .map_or(0, |v| v.get(field))
    }

    /// The capability page in force of type `cap_type` (`fwctl_proto::cap_type`), whose layout is
    /// `L`; `None` if the profile has none.
    #[must_use]
    pub fn cap_view<L: Layout>(&self, cap_type: u16) -> Option<View<'_, L>> {
        View::new(self.f.cap_page(self.profile, cap_type)?)
    }

    /// May the caller read an object of user context `owner`? The driver and tools may read all,
    /// a DEVX context its own.
    ///
    /// # Errors
    /// [`Syndrome::NotOwner`].
    pub fn may_see(&self, owner: u16) -> Done {
        match self.caller {
            CallerKind::Kernel | CallerKind::Tools => Ok(()),
            CallerKind::Devx => self.may_change(owner),
        }
    }

    /// May the caller change or end it? The driver all, others their own.
    ///
    /// # Errors
    /// [`Syndrome::NotOwner`].
    pub fn may_change(&self, owner: u16) -> Done {
        if self.caller == CallerKind::Kernel || self.uid == owner {
            Ok(())
        } else {
            Err(Syndrome::NotOwner.into())
        }
    }

    /// May the caller refer to it from an object of his own? Also to what all contexts share.
    ///
    /// # Errors
    /// [`Syndrome::NotOwner`].
    pub fn may_use(&self, owner: u16) -> Done {
        if owner == SHARED_UID {
            Ok(())
        } else {
            self.may_change(owner)
        }
    }
}

/// The inbox as layout `L`.
///
/// # Errors
/// [`Syndrome::InboxTooShort`].
pub fn view<L: Layout>(inbox: &[u8]) -> Result<View<'_, L>, Refusal> {
    View::new(inbox).ok_or_else(|| Syndrome::InboxTooShort.into())
}

/// The outbox as layout `L`.
///
/// # Errors
/// [`Syndrome::OutboxTooShort`].
pub fn view_mut<L: Layout>(out: &mut [u8]) -> Result<ViewMut<'_, L>, Refusal> {
    ViewMut::new(out).ok_or_else(|| Syndrome::OutboxTooShort.into())
}
