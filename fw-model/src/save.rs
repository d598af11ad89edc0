// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A whole card to and from bytes.
//!
//! What is saved is what a card differs by from its profile. Layout: [`MAGIC`], the version and
//! the CRC-32 of all that follows (both little-endian), then the state as postcard writes it.
//! The bytes come from a file, so nothing in them is believed: a state that no sequence of
//! commands could have led to, as far as it would do harm, is refused.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    Card, Profile,
    card::Shared,
    effect::Effects,
    function::Function,
    limits::{MAX_FUNCTIONS, MAX_SAVED},
    time::Time,
};

/// The first bytes of a saved card.
pub const MAGIC: &[u8; 8] = b"fwctlcrd";
/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 18;
/// Bytes before the state: magic, version, checksum.
const HEAD: usize = 16;

/// Why a saved card was not loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The bytes do not begin as a saved card does.
    #[error("this is not a saved card: it does not begin with \"fwctlcrd\"")]
    NotACard,
    /// Written by another version of the program.
    #[error(
        "the card was saved in format {0}, and only format {VERSION} is read: load it with the fwctl-emu that \
         saved it"
    )]
    Version(u32),
    /// Cut off, or bytes changed.
    #[error(
        "the saved card is damaged: its checksum is {found:#010x} and should be {expected:#010x}"
    )]
    Damaged {
        /// Of the bytes that are there.
        found: u32,
        /// In the head.
        expected: u32,
    },
    /// More bytes than a card ever has.
    #[error("the saved card is longer than {MAX_SAVED} bytes")]
    TooLong,
    /// The state cannot be read.
    #[error("the saved card cannot be read: {0}")]
    Unreadable(String),
    /// Saved from a card of another profile.
    #[error("the card was saved with profile {saved:?}, and this card has profile {given:?}")]
    Profile {
        /// Name of the profile that it had.
        saved: String,
        /// Name of the profile that was given.
        given: String,
    },
    /// The profile has changed since.
    #[error("profile {0:?} is not what it was when the card was saved")]
    ProfileChanged(String),
    /// Saved from a card with more or fewer functions, or that are reached otherwise.
    #[error("the card was saved with other functions")]
    OtherFunctions,
    /// The state breaks a rule.
    #[error("the saved card holds what no card can hold: {0}")]
    Impossible(&'static str),
    /// A fault that the grammar does not let be.
    #[error("the saved card holds a fault that cannot be: {0}")]
    Fault(String),
}

#[derive(Serialize)]
struct Saved<'a> {
    profile: &'a str,
    fingerprint: u32,
    shared: &'a Shared,
    functions: &'a [Function],
}

#[derive(Deserialize)]
struct Loaded {
    profile: String,
    fingerprint: u32,
    shared: Shared,
    functions: Vec<Function>,
}

impl Card {
    /// The whole card as bytes. Loading them gives a card that behaves as this one does.
    ///
    /// # Errors
    /// What the encoder says; there is no state that it cannot write.
    pub fn save(&self) -> Result<Vec<u8>, postcard::Error> {
        let saved = Saved {
            profile: &self.profile.name,
            fingerprint: self.profile.fingerprint(),
            shared: &self.shared,
            functions: &self.functions,
        };
        let mut bytes = Vec::from(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 4]);
        let mut bytes = postcard::to_extend(&saved, bytes)?;
        let sum = crc32fast::hash(&bytes[HEAD..]).to_le_bytes();
        bytes[HEAD - 4..HEAD].copy_from_slice(&sum);
        Ok(bytes)
    }

    /// Becomes a saved card, of the same profile and with functions that are reached in the same way. What
    /// waits for an answer on a command channel is told of a reset; what waits in a slot is forgotten.
    ///
    /// # Errors
    /// [`LoadError`]; nothing has changed then.
    pub fn replace(&mut self, bytes: &[u8], now: Time, fx: &mut Effects) -> Result<(), LoadError> {
        let saved = self.loadable(bytes)?;
        for f in &self.functions {
            f.abandon(fx);
        }
        self.functions = saved.functions;
        self.shared = saved.shared;
        self.shared.time = self.shared.time.max(now);
        Ok(())
    }

    /// A saved card that this one can become.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn loadable(&self, bytes: &[u8]) -> Result<Self, LoadError> {
        let saved = Self::load(self.profile.clone(), bytes)?;
        let doors = |c: &Self| c.functions.iter().map(|f| f.events).collect::<Vec<_>>();
        if doors(&saved) != doors(self) {
            return Err(LoadError::OtherFunctions);
        }
        Ok(saved)
    }

    /// A card from what [`Card::save`] gave.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(profile: Arc<Profile>, bytes: &[u8]) -> Result<Self, LoadError> {
        if bytes.len() > MAX_SAVED {
            return Err(LoadError::TooLong);
        }
        let (head, body) = bytes.split_at_checked(HEAD).ok_or(LoadError::NotACard)?;
        let word = |at: usize| {
            let b = head.get(at..at + 4).and_then(|b| b.try_into().ok());
            b.map_or(0, u32::from_le_bytes)
        };
        if !head.starts_with(MAGIC) {
            return Err(LoadError::NotACard);
        }
        if word(8) != VERSION {
            return Err(LoadError::Version(word(8)));
        }
        let (found, expected) = (crc32fast::hash(body), word(12));
        if found != expected {
            return Err(LoadError::Damaged { found, expected });
        }
        let loaded: Loaded =
            postcard::from_bytes(body).map_err(|e| LoadError::Unreadable(e.to_string()))?;
        if loaded.profile != profile.name {
            return Err(LoadError::Profile {
                saved: loaded.profile,
                given: profile.name.clone(),
            });
        }
        if loaded.fingerprint != profile.fingerprint() {
            return Err(LoadError::ProfileChanged(loaded.profile));
        }
        if loaded.functions.len() > MAX_FUNCTIONS {
            return Err(LoadError::Impossible("more functions than a card has"));
        }
        let count = loaded.functions.len();
        loaded.shared.check(count).map_err(LoadError::Impossible)?;
        loaded.shared.faults.check().map_err(LoadError::Fault)?;
        let mut functions = loaded.functions;
        for (i, f) in functions.iter_mut().enumerate() {
            if usize::from(f.id.0) != i {
                return Err(LoadError::Impossible("functions out of order"));
            }
            f.restore().map_err(LoadError::Impossible)?;
        }
        Ok(Self::restored(profile, functions, loaded.shared))
    }
}
