// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Making a failing record shorter: the frames without which the last one does not fail the same way.

use std::sync::Arc;

use super::{
    Frame, Head,
    replay::{Difference, Done, Reads, Replay},
};
use crate::{Profile, save::LoadError};

/// How a record fails: at this frame, and what the frame does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// From 0.
    pub frame: usize,
    /// How it differs from what is recorded.
    pub difference: Difference,
    /// What it did.
    pub done: Done,
}

/// The first frame of a record that does not do what is recorded, or that panics.
///
/// # Errors
/// [`LoadError`]: the record's card is not one of `profile`.
pub fn failure(
    profile: &Arc<Profile>,
    head: &Head,
    frames: &[Frame<'_>],
) -> Result<Option<Failure>, LoadError> {
    let mut replay = Replay::new(profile.clone(), head)?;
    for (n, frame) in frames.iter().enumerate() {
        let done = replay.step(frame, Reads::InOrder);
        let difference = done.difference(frame).or(done
            .panicked
            .then_some(Difference::Panic { recorded: true }));
        if let Some(difference) = difference {
            return Ok(Some(Failure {
                frame: n,
                difference,
                done,
            }));
        }
    }
    Ok(None)
}

/// Numbers of the frames that are needed for `failure`, its own the last. `told` hears now and then how
/// many are left.
///
/// A frame may be left out if the failing one still does what it did. What the others do meanwhile is
/// not looked at: without the frames before them they may well do something else.
///
/// # Errors
/// [`LoadError`].
pub fn minimize(
    profile: &Arc<Profile>,
    head: &Head,
    frames: &[Frame<'_>],
    failure: &Failure,
    mut told: impl FnMut(usize),
) -> Result<Vec<usize>, LoadError> {
    let Some(last) = frames.get(failure.frame) else {
        return Ok(Vec::new());
    };
    let fails = |before: &[usize]| -> Result<bool, LoadError> {
        let mut replay = Replay::new(profile.clone(), head)?;
        for n in before {
            // A card that has panicked is not gone on with.
            if replay.step(&frames[*n], Reads::ByPlace).panicked && !frames[*n].panicked {
                return Ok(false);
            }
        }
        let done = replay.step(last, Reads::InOrder);
        Ok(done == failure.done)
    };
    let mut kept: Vec<usize> = (0..failure.frame).collect();
    let mut size = kept.len().div_ceil(2);
    while size > 0 {
        let mut at = kept.len();
        // From the end: what came last depends on what came first, and not the other way round.
        while at > 0 {
            let from = at.saturating_sub(size);
            let without: Vec<usize> = [&kept[..from], &kept[at..]].concat();
            if fails(&without)? {
                kept = without;
                told(kept.len() + 1);
            }
            at = from;
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    kept.push(failure.frame);
    Ok(kept)
}

/// The record that has just these frames: what they do is recorded anew, but for the last, which keeps
/// what it should have done.
///
/// # Errors
/// [`LoadError`].
pub fn shortened<'a>(
    profile: &Arc<Profile>,
    head: &Head,
    frames: &[Frame<'a>],
    kept: &[usize],
) -> Result<Vec<Frame<'a>>, LoadError> {
    let mut replay = Replay::new(profile.clone(), head)?;
    let mut short = Vec::new();
    for (i, n) in kept.iter().enumerate() {
        let mut frame = frames[*n].clone();
        if i + 1 < kept.len() {
            replay.record(&mut frame);
        }
        short.push(frame);
    }
    Ok(short)
}
