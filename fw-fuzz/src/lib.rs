// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A harness to fuzz firmware commands without an operating system: your command list, your model of a
//! driver, or the project's own targets (docs/fuzzing.md).
//!
//! # Your commands
//! [`Sequence`] makes sequences of the commands that you name from a fuzzer's bytes. The layouts say where
//! fields lie, and objects that were made are named where an object must be. It checks what must hold for
//! any firmware: an outbox of the length that was asked for, a known status, nothing behind the syndrome of
//! a refusal, and nothing changed by one.
//!
//! ```
//! use fw_fuzz::{Commands, Sequence, trials::Inputs};
//!
//! let names = ["ALLOC_PD", "DEALLOC_PD", "CREATE_MKEY", "QUERY_MKEY", "DESTROY_MKEY"];
//! let profile = fw_model::Profile::builtin("connectx7")?;
//! let mut sequence = Sequence::new(profile, Commands::only(&names)?);
//! for input in Inputs::new(vec![vec![0x0a]], vec![], 256, 1).take(100) {
//!     sequence.run(&input);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Under libFuzzer [`kept`] keeps the sequence from one input to the next; `fuzz/fuzz_targets/example.rs` is a whole
//! target of a few lines.
//!
//! Commands that an overlay adds (docs/overlays.md) are named with [`Commands::only_with`].
//!
//! # Your driver
//! [`Device`] is a card with its guest's memory. Give it commands as your driver does, take what it must
//! decide from the fuzzer's bytes, and assert what it relies on. This one makes and ends user contexts;
//! fw-fuzz/examples/driver.rs is another.
//!
//! ```
//! use fw_fuzz::{Device, command, trials::Inputs};
//! use fw_model::{EventPath, FunctionId};
//! use fwctl_proto::opcode::{CREATE_UCTX, DESTROY_UCTX};
//!
//! fn driver(device: &mut Device, data: &[u8]) {
//!     let (f, mut uids) = (FunctionId(0), Vec::new());
//!     device.renew();
//!     device.bring_up(f);
//!     for step in data {
//!         if step & 1 == 0 && device.command(f, &command(CREATE_UCTX, 0, 64), 16) {
//!             uids.push(device.reply().expect("answered").outbox[10..12].to_vec());
//!         } else if let Some(uid) = uids.pop() {
//!             let mut inbox = command(DESTROY_UCTX, 0, 16);
//!             inbox[10..12].copy_from_slice(&uid);
//!             assert!(device.command(f, &inbox, 16), "what was made is ended");
//!         }
//!     }
//!     assert_eq!(device.card.report(f).expect("a function").uctx, uids.len());
//! }
//!
//! let mut device = Device::new("connectx7", &[EventPath::Channel])?;
//! for input in Inputs::new(vec![vec![0, 0, 1, 0]], vec![], 64, 1).take(200) {
//!     driver(&mut device, &input);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod begin;
mod bytes;
pub mod check;
mod commands;
pub mod compare;
mod device;
pub mod dictionary;
pub mod from_record;
mod guest;
pub mod guests;
mod hash;
mod kept;
mod known;
pub mod panics;
pub mod reference;
mod sequence;
pub mod targets;
pub mod trials;

pub use begin::{begins, set_begin_hook};
pub use commands::{Commands, MAX_INBOX, MAX_OUTBOX, UnknownCommand};
pub use device::{Device, Kept, Reply, command};
pub use guest::{GUEST_BYTES, Guest};
pub use hash::hash;
pub use kept::kept;
pub use known::Known;
pub use sequence::{FUNCTIONS, MAX_STEPS, Sequence, raw_step};
