// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The test runner inside the guest: KTAP on the console.
//!
//! A suite is a table of tests in [`suites`]; adding a test is one function and one row. Each test
//! runs in a process of its own ([`engine`]), with a time limit, and fails also if the kernel log
//! shows a complaint of the drivers under test ([`dmesg`]). Nothing here needs a shell, udev or
//! any program of the guest; what uses one skips by name where it is missing.

pub mod demo;
pub mod dmesg;
pub mod engine;
pub mod hex;
pub mod ktap;
pub mod modules;
pub mod rpcs;
pub mod suites;
pub mod sysfs;
pub mod test;
pub mod worker;
