// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Copies into what is there already: a fuzzer brings a card to where an input begins before each input, and with the
//! copies that `derive(Clone)` makes most of that is the heap's.

/// `Clone` for a type of these fields, all of them, whose `clone_from` is theirs.
macro_rules! clone_by_fields {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl Clone for $type {
            fn clone(&self) -> Self {
                let Self { $($field),* } = self;
                Self { $($field: $field.clone()),* }
            }

            fn clone_from(&mut self, from: &Self) {
                let Self { $($field),* } = from;
                $(self.$field.clone_from($field);)*
            }
        }
    };
}

pub(crate) use clone_by_fields;
