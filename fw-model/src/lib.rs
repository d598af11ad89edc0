// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The firmware: a sans-IO model of a card's firmware mailbox, its commands and its state.
//!
//! A [`Card`] takes [`Input`]s, each with the time at which it happened, and gives back ordered
//! [`Effect`]s. It owns no file, socket, thread or clock; whoever drives it carries the effects
//! out in their order and calls [`Card::poll`] at the deadline that they name. The same inputs
//! with the same seed give the same effects, byte for byte.
#![forbid(unsafe_code)]

pub mod card;
pub mod effect;
pub mod input;
pub mod limits;
pub mod memory;
pub mod store;
pub mod time;

pub use card::{Card, CardOptions, FunctionId};
pub use effect::{Delivery, Effect, Effects, Order};
pub use input::{Caller, EventPath, Input, ResetKind, Scope};
pub use memory::{GuestMemory, NoMemory, Unmapped};
pub use store::{Batch, MemStore, Store, StoreError, Token};
pub use time::Time;
