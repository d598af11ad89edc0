// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The state machine by which components of the firmware are updated (MCC).

use core::time::Duration;

use crate::{Time, store::Token, syndrome::Syndrome};

/// How long an owner may say nothing.
pub const SILENCE: Duration = Duration::from_secs(20);
/// The longest that a state may take that ends by itself: shorter than the owner may be silent.
pub const MAX_STEP: Duration = Duration::from_secs(10);
/// Bits of a handle.
const HANDLE_BITS: u32 = 24;
/// Bytes that are accounted for at once.
const GRAIN: usize = 4;

/// `MCC.control_state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum State {
    /// Nobody updates.
    #[default]
    Idle = 0,
    /// Somebody has the handle.
    Locked = 1,
    /// Room for a component is made.
    Initialize = 2,
    /// A component comes in.
    Download = 3,
    /// What was verified is made what starts next.
    Activate = 6,
    /// A component goes out.
    Upload = 7,
}

/// `MCC.error_code`: why a component was not taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Rejected {
    /// It was.
    #[default]
    No = 0,
    /// A checksum is wrong, or bytes are missing.
    Digest = 2,
    /// It is for another card.
    NotApplicable = 3,
    /// It is no such component.
    BadFormat = 8,
    /// The card's settings forbid its version.
    ForbiddenVersion = 0xf,
}

/// A component that is coming in, or one that was verified.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Component {
    /// Its index.
    pub index: u16,
    /// Its bytes.
    pub data: Vec<u8>,
    /// Which of them came, one for [`GRAIN`].
    came: Vec<bool>,
}

impl Component {
    /// True if every byte came.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.came.iter().all(|c| *c)
    }
}

/// A state that ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Step {
    state: State,
    from: Time,
    takes: Duration,
}

/// The state machine of a card.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Update {
    state: State,
    /// Why the last component was not taken.
    pub rejected: Rejected,
    handle: u32,
    used: Time,
    incoming: Option<Component>,
    /// What goes out.
    pub outgoing: Vec<u8>,
    /// Verified, waiting for activation.
    pub staged: Vec<Component>,
    // Activated, and in this batch not stored yet: staged again if it cannot be.
    activating: Vec<Component>,
    stored_by: Option<Token>,
    // Shown before `state` is: what was asked for is done already.
    step: Option<Step>,
}

impl Update {
    /// The state, after an owner who said nothing for too long lost his handle.
    pub fn state(&mut self, now: Time) -> State {
        if self.state != State::Idle && now.since(self.used) >= SILENCE {
            self.release();
        }
        self.step = self.step.filter(|s| now.since(s.from) < s.takes);
        self.step.map_or(self.state, |s| s.state)
    }

    /// The state is `state` for `takes`, before it is what it is.
    pub fn passes(&mut self, state: State, now: Time, takes: Duration) {
        self.step = Some(Step {
            state,
            from: now,
            takes,
        });
    }

    /// `control_progress`: percent of a state that ends by itself.
    #[must_use]
    pub fn progress(&self, now: Time) -> u8 {
        self.step.map_or(0, |s| {
            let whole = s.takes.as_nanos().max(1);
            (now.since(s.from).as_nanos() * 100 / whole).min(100) as u8
        })
    }

    /// What was verified is activated, by the batch that is being made.
    pub(super) fn activate(&mut self, what: Vec<Component>) {
        self.activating = what;
        self.stored_by = None;
    }

    /// What was activated is as it was stored before.
    pub fn activated(&mut self) {
        self.activating = Vec::new();
        self.stored_by = None;
    }

    pub(super) fn waits_for(&mut self, token: Token) {
        if !self.activating.is_empty() {
            self.stored_by.get_or_insert(token);
        }
    }

    pub(super) fn settled(&mut self, token: Token, stored: bool) {
        if self.stored_by != Some(token) {
            return;
        }
        let back = core::mem::take(&mut self.activating);
        self.stored_by = None;
        if stored {
            return;
        }
        self.step = None;
        for c in back {
            if self.staged.iter().all(|s| s.index != c.index) {
                self.staged.push(c);
            }
        }
    }

    /// The handle: the owner's, or the one for whoever locks next.
    #[must_use]
    pub fn handle(&self) -> u32 {
        // Never 0: that is no handle.
        self.handle.max(1)
    }

    /// For how long the owner said nothing.
    #[must_use]
    pub fn idle_for(&self, now: Time) -> Duration {
        now.since(self.used)
    }

    /// Index of the component that comes in.
    #[must_use]
    pub fn incoming(&self) -> Option<u16> {
        self.incoming.as_ref().map(|c| c.index)
    }

    /// Checks that the owner speaks, and in one of these states.
    ///
    /// # Errors
    /// [`Syndrome::UpdateHandle`], [`Syndrome::UpdateState`].
    pub fn owner(&mut self, handle: u32, states: &[State], now: Time) -> Result<(), Syndrome> {
        let state = self.state(now);
        if !states.contains(&state) {
            return Err(Syndrome::UpdateState);
        }
        if handle != self.handle() {
            return Err(Syndrome::UpdateHandle);
        }
        self.used = now;
        Ok(())
    }

    /// LOCK_UPDATE_HANDLE.
    ///
    /// # Errors
    /// [`Syndrome::UpdateState`] if somebody has it, [`Syndrome::UpdateHandle`].
    pub fn lock(&mut self, handle: u32, now: Time) -> Result<(), Syndrome> {
        self.owner(handle, &[State::Idle], now)?;
        self.state = State::Locked;
        self.rejected = Rejected::No;
        Ok(())
    }

    /// The owner is done, or lost it: all that is not activated is forgotten.
    pub fn release(&mut self) {
        *self = Self {
            handle: (self.handle() + 1) & ((1 << HANDLE_BITS) - 1),
            ..Self::default()
        };
    }

    /// UPDATE_COMPONENT: `size` bytes will come.
    pub fn download(&mut self, index: u16, size: usize) {
        self.state = State::Download;
        self.rejected = Rejected::No;
        self.incoming = Some(Component {
            index,
            data: vec![0; size],
            came: vec![false; size.div_ceil(GRAIN)],
        });
    }

    /// MCDA: some bytes. The last ones may be filled up to a dword.
    ///
    /// # Errors
    /// [`Syndrome::UpdateRange`].
    pub fn data(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Syndrome> {
        let c = self.incoming.as_mut().ok_or(Syndrome::UpdateState)?;
        let behind = offset.checked_add(bytes.len());
        let fits = behind.is_some_and(|end| end <= c.data.len().next_multiple_of(GRAIN));
        if !fits || !offset.is_multiple_of(GRAIN) || bytes.is_empty() {
            return Err(Syndrome::UpdateRange);
        }
        for (to, from) in c.data.iter_mut().skip(offset).zip(bytes) {
            *to = *from;
        }
        let grains = bytes.len().div_ceil(GRAIN);
        c.came
            .iter_mut()
            .skip(offset / GRAIN)
            .take(grains)
            .for_each(|g| *g = true);
        Ok(())
    }

    /// VERIFY_COMPONENT: `check` says whether the component is taken; it is then staged, instead
    /// of one of the same index.
    pub fn verify(&mut self, check: impl FnOnce(&Component) -> Rejected) {
        let Some(c) = self.incoming.take() else {
            return;
        };
        self.state = State::Locked;
        self.rejected = if c.is_whole() {
            check(&c)
        } else {
            Rejected::Digest
        };
        if self.rejected == Rejected::No {
            self.staged.retain(|s| s.index != c.index);
            self.staged.push(c);
        }
    }

    /// READ_COMPONENT: these bytes go out.
    pub fn upload(&mut self, bytes: Vec<u8>) {
        self.state = State::Upload;
        self.outgoing = bytes;
    }

    /// CANCEL: no component comes or goes any more.
    pub fn cancel(&mut self) {
        self.state = State::Locked;
        self.step = None;
        self.incoming = None;
        self.outgoing = Vec::new();
    }

    /// Checks what was read from a file.
    ///
    /// # Errors
    /// What there is that cannot be.
    pub fn check(&self, most: usize, now: Time) -> Result<(), &'static str> {
        let all = self.incoming.iter().chain(&self.staged);
        let all = all.chain(&self.activating);
        let bad =
            |c: &Component| c.data.len() > most || c.came.len() != c.data.len().div_ceil(GRAIN);
        let many = self.staged.len().max(self.activating.len()) > 16;
        if all.into_iter().any(bad) || self.outgoing.len() > most || many {
            return Err("a firmware component that is too long");
        }
        if (self.state == State::Download) != self.incoming.is_some() {
            return Err("a download without a component");
        }
        if self.activating.is_empty() != self.stored_by.is_none() {
            return Err("an activation of nothing");
        }
        let lasting = [State::Idle, State::Locked, State::Download, State::Upload];
        let passing = |s: Step| {
            let then = match s.state {
                State::Initialize => State::Download,
                State::Activate => State::Locked,
                _ => return false,
            };
            then == self.state && s.takes <= MAX_STEP && s.from <= now
        };
        if !lasting.contains(&self.state) || !self.step.is_none_or(passing) {
            return Err("a firmware update that stands still");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_lost_after_silence_and_another_one_given() {
        let mut u = Update::default();
        let h = u.handle();
        u.lock(h, Time::ZERO).unwrap();
        assert_eq!(u.lock(h, Time::ZERO), Err(Syndrome::UpdateState));
        assert_eq!(
            u.owner(h + 1, &[State::Locked], Time::ZERO),
            Err(Syndrome::UpdateHandle)
        );
        let late = Time::ZERO.after(SILENCE);
        assert_eq!(u.state(late), State::Idle);
        assert_ne!(u.handle(), h);
        assert_eq!(u.lock(h, late), Err(Syndrome::UpdateHandle));
    }

    #[test]
    fn a_state_that_ends_by_itself_refuses_the_next_step_until_then() {
        let mut u = Update::default();
        let h = u.handle();
        u.lock(h, Time::ZERO).unwrap();
        u.download(0, 4);
        u.passes(State::Initialize, Time::ZERO, Duration::from_millis(200));
        let at = |ms: u64| Time::ZERO.after(Duration::from_millis(ms));
        assert_eq!(u.state(at(50)), State::Initialize);
        assert_eq!(u.progress(at(50)), 25);
        let early = u.owner(h, &[State::Download], at(199));
        assert_eq!(early, Err(Syndrome::UpdateState));
        assert_eq!(
            (u.state(at(200)), u.progress(at(200))),
            (State::Download, 0)
        );
    }

    #[test]
    fn only_a_step_that_can_be_is_read_from_a_file() {
        let ms = Duration::from_millis;
        for (state, step, from, takes, good) in [
            (State::Locked, State::Activate, 5, ms(1), true),
            (State::Locked, State::Activate, 6, ms(1), false),
            (State::Locked, State::Activate, 5, MAX_STEP + ms(1), false),
            (State::Idle, State::Activate, 5, ms(1), false),
            (State::Locked, State::Initialize, 5, ms(1), false),
            (State::Locked, State::Locked, 5, ms(1), false),
            (State::Activate, State::Activate, 5, ms(1), false),
        ] {
            let mut u = Update {
                state,
                ..Update::default()
            };
            u.passes(step, Time(from), takes);
            assert_eq!(
                u.check(4, Time(5)).is_ok(),
                good,
                "{state:?} {step:?} {from}"
            );
        }
        let u = Update {
            stored_by: Some(Token(1)),
            ..Update::default()
        };
        u.check(4, Time(5)).unwrap_err();
    }

    #[test]
    fn every_byte_must_have_come() {
        let mut u = Update::default();
        u.lock(u.handle(), Time::ZERO).unwrap();
        u.download(0, 10);
        for (offset, len) in [(2, 4), (12, 4), (8, 8), (0, 0), (usize::MAX & !3, 4)] {
            let got = u.data(offset, &vec![1; len]);
            assert_eq!(got, Err(Syndrome::UpdateRange), "{offset}+{len}");
        }
        u.data(8, &[3; 4]).unwrap();
        u.verify(|_| Rejected::No);
        assert_eq!((u.rejected, u.staged.len()), (Rejected::Digest, 0));
        u.download(0, 10);
        u.data(8, &[3; 4]).unwrap();
        u.data(0, &[1; 8]).unwrap();
        u.verify(|_| Rejected::No);
        assert_eq!(u.staged[0].data, [1, 1, 1, 1, 1, 1, 1, 1, 3, 3]);
    }
}
