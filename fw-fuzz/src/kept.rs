// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is made once and used for each input.

use std::{
    any::{Any, TypeId},
    cell::RefCell,
    collections::HashMap,
};

thread_local! {
    static KEPT: RefCell<HashMap<TypeId, Box<dyn Any>>> = RefCell::default();
}

/// Runs `run` on what `make` makes, which is made once for each type in a thread and kept: a target for libFuzzer is a
/// function of an input alone, and to make a card for each costs more than to use it.
///
/// ```
/// use fw_fuzz::{Commands, Sequence, kept};
///
/// // In a crate that cargo-fuzz knows: fuzz_target!(|data: &[u8]| target(data));
/// fn target(data: &[u8]) {
///     let make = || {
///         let profile = fw_model::Profile::builtin("connectx7").expect("a profile");
///         Sequence::new(profile, Commands::only(&["ALLOC_PD", "DEALLOC_PD"]).expect("commands"))
///     };
///     kept(make, |sequence| sequence.run(data));
/// }
/// # target(&[0x0a]);
/// # target(&[0x0a, 0, 0, 0, 0, 0]);
/// ```
pub fn kept<T: 'static, R>(make: impl FnOnce() -> T, run: impl FnOnce(&mut T) -> R) -> R {
    let id = TypeId::of::<T>();
    let taken = KEPT.with_borrow_mut(|all| all.remove(&id));
    let mut one = match taken.map(Box::<dyn Any>::downcast) {
        Some(Ok(one)) => one,
        // None yet, or one that is in use or has panicked.
        _ => Box::<T>::new(make()),
    };
    let result = run(&mut one);
    KEPT.with_borrow_mut(|all| all.insert(id, one));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_for_each_type_and_again_after_a_panic() {
        let next = || {
            kept(
                || 0u32,
                |n| {
                    *n += 1;
                    *n
                },
            )
        };
        assert_eq!((next(), next()), (1, 2));
        assert_eq!(kept(|| 7u64, |n| *n), 7);
        assert_eq!(next(), 3);
        let panics = std::panic::catch_unwind(|| kept(|| 0u32, |_| panic!("as a target does")));
        assert!(panics.is_err());
        assert_eq!(next(), 1);
    }
}
