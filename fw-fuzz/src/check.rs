// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What must hold for a card at any time, for sequences and for drivers of others.

use std::sync::Arc;

use fw_model::{
    Card, EqReport, FunctionId, FunctionReport, ItemReport, ObjectReport, PagesReport, Profile,
    UctxReport,
};

/// All that a function shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    report: Option<FunctionReport>,
    objects: Vec<ObjectReport>,
    uctx: Vec<UctxReport>,
    eqs: Vec<EqReport>,
    pages: Option<PagesReport>,
    items: Vec<ItemReport>,
}

/// Looks at a function.
#[must_use]
pub fn looked_at(card: &Card, f: FunctionId) -> Looked {
    Looked {
        report: card.report(f),
        objects: card.objects(f, None),
        uctx: card.uctx(f),
        eqs: card.eqs(f),
        pages: card.pages(f),
        items: card.items(),
    }
}

/// A card is saved, loaded, and is then the same.
///
/// # Panics
/// If it is not.
pub fn saves_and_loads(card: &Card, profile: &Arc<Profile>) {
    let saved = card.save().expect("a card is saved");
    let loaded = match Card::load(profile.clone(), &saved) {
        Ok(loaded) => loaded,
        Err(e) => panic!("a card that was saved is not loaded: {e}"),
    };
    assert!(
        loaded.save().expect("saved again") == saved,
        "a loaded card is another one"
    );
}
