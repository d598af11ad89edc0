// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The firmware: a sans-IO model of a card's firmware mailbox, its commands and its state.
//!
//! A [`Card`] takes [`Input`]s, each with the time at which it happened, and gives back ordered
//! [`Effect`]s. It owns no file, socket, thread or clock; whoever drives it carries the effects
//! out in their order and calls [`Card::poll`] at the deadline that they name. The same inputs
//! with the same seed give the same effects, byte for byte.
#![forbid(unsafe_code)]

pub mod card;
pub mod cmd;
mod copy;
pub mod diagnostics;
pub mod effect;
mod exec;
pub mod fault;
pub mod firmware;
pub mod function;
pub mod gateway;
pub mod health;
pub mod input;
pub mod iseg;
pub mod limits;
pub mod mailbox;
pub mod memory;
mod nearest;
pub mod nv;
pub mod object;
pub mod overlay;
pub mod profile;
pub mod record;
pub mod reg;
pub mod save;
pub mod settings;
pub mod store;
pub mod syndrome;
pub mod table;
pub mod tables;
pub mod time;
pub mod tracer;
mod unstored;
pub mod vpd;
pub mod vport;
pub mod work;

pub use card::{
    Bits, Card, CardOptions, EqReport, FunctionId, FunctionReport, ItemReport, MAX_LATE,
    ObjectReport, PagesReport, Stopped, UctxReport, counters,
};
pub use effect::{
    Bytes, Delivery, Effect, Effects, Notice, Observed, Order, Posted, Unanswered, Why,
};
pub use health::Report;
pub use input::{Caller, EventPath, Input, ResetKind, Scope};
pub use memory::{GuestMemory, NoMemory, Unmapped};
pub use nearest::nearest;
pub use overlay::Overlay;
pub use profile::{Profile, ProfileError};
pub use store::{Batch, MemStore, Store, StoreError, Token};
pub use time::Time;
