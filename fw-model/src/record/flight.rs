// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The flight recorder: the last things that happened to a card, always there, in bounded memory.
//!
//! A record begins with a card. Saving one takes as long as it holds much, and must not hold up a
//! command. So a second card follows the first: what has become too old to be kept happens to it, by
//! the same code as in a replay, in whichever thread has the time. It is always what the first one was
//! before the oldest frame that is still kept.

use core::mem;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{Frame, Happening, Head, replay::Reads, replay::Recorded, sealed};
use crate::{Card, Effects, Profile, save::LoadError};

/// Bytes of a generation of frames. There are two, the last one filled and the one that is being filled,
/// and a frame is never split.
pub const GENERATION: usize = 2 << 20;
/// Bytes before each frame: its length.
const LEN: usize = 4;

/// Frames one after the other, each behind its length.
pub type Frames = Arc<Vec<u8>>;

/// The frames that are kept.
#[derive(Debug, Default)]
pub struct Flight {
    last: Frames,
    now: Vec<u8>,
}

impl Flight {
    /// Keeps a frame. What is returned is kept no more, and has to happen to the [`Follower`]; `spare`
    /// gives memory for frames, used before or new.
    pub fn put(
        &mut self,
        frame: &Happening<'_>,
        spare: impl FnOnce() -> Vec<u8>,
    ) -> Option<Frames> {
        let at = self.now.len();
        self.now.extend([0; LEN]);
        if frame.write(&mut self.now).is_err() {
            // The encoder cannot fail; frames that are not all there would be no record.
            self.now.clear();
            return None;
        }
        let len = (self.now.len() - at - LEN) as u32;
        if let Some(head) = self.now.get_mut(at..at + LEN) {
            head.copy_from_slice(&len.to_le_bytes());
        }
        if self.now.len() < GENERATION {
            return None;
        }
        let full = mem::replace(&mut self.now, spare());
        self.now.clear();
        Some(mem::replace(&mut self.last, Arc::new(full)))
    }

    /// All that is kept, the oldest first.
    #[must_use]
    pub fn kept(&self) -> [Frames; 2] {
        [self.last.clone(), Arc::new(self.now.clone())]
    }
}

fn each(frames: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = frames;
    core::iter::from_fn(move || {
        let (len, behind) = rest.split_first_chunk::<LEN>()?;
        let (frame, behind) = behind.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        rest = behind;
        Some(frame)
    })
}

/// The card as it was before the oldest frame that is kept.
#[derive(Debug)]
pub struct Follower {
    card: Card,
    fx: Effects,
}

impl Follower {
    /// It begins where `card` is now.
    ///
    /// # Errors
    /// The card cannot be saved or loaded, which none is known to do.
    pub fn new(card: &Card, profile: Arc<Profile>) -> Result<Self, LoadError> {
        let saved = card
            .save()
            .map_err(|e| LoadError::Unreadable(e.to_string()))?;
        Ok(Self {
            card: Card::load(profile, &saved)?,
            fx: Effects::new(),
        })
    }

    /// Lets frames happen to it, one after the other.
    pub fn follow(&mut self, frames: &[u8]) {
        for body in each(frames) {
            let Ok(frame) = postcard::from_bytes::<Frame<'_>>(body) else {
                return;
            };
            let mem = Recorded::of(&frame, Reads::InOrder);
            let (card, fx) = (&mut self.card, &mut self.fx);
            fx.clear();
            let happen = || frame.step.happen(card, frame.at, &mem, fx);
            // Where the first card panicked, this one does, and is then what that one was.
            drop(catch_unwind(AssertUnwindSafe(happen)));
        }
    }

    /// A record of it and of `kept`; and how many frames there are. `head` is completed with the card.
    ///
    /// # Errors
    /// What the encoder says; there is no record that it cannot write.
    pub fn record(
        &self,
        mut head: Head,
        kept: &[Frames],
    ) -> Result<(Vec<u8>, usize), postcard::Error> {
        head.card = self.card.save()?;
        let mut bytes = super::head(&head)?;
        let mut count = 0;
        for body in kept.iter().flat_map(|f| each(f)) {
            bytes.extend(sealed(body));
            count += 1;
        }
        Ok((bytes, count))
    }
}
