// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the caller got wrong.

/// A wrong use of the command line: it ends with exit code 2, anything else that fails with 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

impl Usage {
    /// What is wrong, as an error like others.
    pub fn of(what: impl Into<String>) -> anyhow::Error {
        Self(what.into()).into()
    }
}
