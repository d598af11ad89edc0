// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Fuzzes an unmodified mlx5_core in a guest with a device whose answers, events and timing are wrong by
//! a seed. docs/driver-fuzzing.md says what a case is and when it counts.

pub mod case;
pub mod guest;
pub mod results;
pub mod run;
pub mod verdict;
