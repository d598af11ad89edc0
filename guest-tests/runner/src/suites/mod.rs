// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suites: a table each, one row and one function for a test.

use crate::test::Suite;

mod fwctl;
mod fwctl_stress;
pub mod guarantees;
mod mlx5_diagnostics;
mod mlx5_eth;
mod mlx5_faults;
mod mlx5_health;
mod mlx5_ib;
mod mlx5_probe;
mod mlx5_reload;
mod mlx5_removed;
mod mlx5_reset;
mod mlx5_tracer;
mod mlx5_two;
mod mst_card;
mod mst_config;
mod mst_dump;
mod mst_flash;
mod mst_fwctl;
mod mst_link;
mod mst_pci;
mod mst_refused;
mod mst_registers;
mod mst_settings;
mod programs;
mod virtio_probe;
mod virtio_unbind;

/// All of them.
pub const SUITES: &[&Suite] = &[
    &mlx5_probe::SUITE,
    &fwctl::SUITE,
    &fwctl_stress::SUITE,
    &guarantees::SUITE,
    &guarantees::TROUBLE,
    &guarantees::LOCKDOWN,
    &mlx5_diagnostics::SUITE,
    &mlx5_reload::SUITE,
    &mlx5_eth::SUITE,
    &mlx5_eth::LINK,
    &mlx5_eth::UNPLUGGED,
    &mlx5_eth::PLUGGED,
    &mlx5_reset::ACTIVATE,
    &mlx5_reset::REFUSE,
    &mlx5_reset::HOT,
    &mlx5_ib::SUITE,
    &mlx5_two::SUITE,
    &mlx5_two::ACTIVATE,
    &mst_card::SUITE,
    &mst_flash::DIRECT,
    &mst_flash::FORBIDDEN,
    &mst_flash::SUITE,
    &mst_fwctl::SUITE,
    &mst_dump::SUITE,
    &mst_refused::SUITE,
    &mst_link::SUITE,
    &mst_pci::SUITE,
    &mst_pci::RESET,
    &mst_pci::DUMP,
    &mst_settings::SUITE,
    &mst_settings::LINK_TYPE,
    &mst_config::SUITE,
    &mst_config::AMENDED,
    &mst_config::LIST,
    &mst_config::VIRTUAL_FUNCTIONS,
    &mlx5_tracer::SUITE,
    &mlx5_faults::SUITE,
    &mlx5_health::SICK,
    &mlx5_health::HEALED,
    &mlx5_health::RECOVERS,
    &mlx5_health::ASKS_FIRST,
    &mlx5_health::TOLD,
    &mlx5_removed::REMOVED,
    &mlx5_removed::PUT_BACK,
    &virtio_probe::SUITE,
    &virtio_unbind::SUITE,
];

/// The suite with a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Suite> {
    SUITES.iter().find(|s| s.name == name).copied()
}

#[cfg(test)]
mod tests {
    use super::SUITES;

    #[test]
    fn names_are_identifiers_and_unique() {
        let is_id = |s: &str| {
            !s.is_empty()
                && s.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        for (i, suite) in SUITES.iter().enumerate() {
            assert!(is_id(suite.name), "{}", suite.name);
            assert!(
                SUITES[..i].iter().all(|o| o.name != suite.name),
                "{}",
                suite.name
            );
            assert!(!suite.tests.is_empty() && !suite.subjects.is_empty());
            for (j, test) in suite.tests.iter().enumerate() {
                assert!(is_id(test.name), "{}", test.name);
                assert!(
                    suite.tests[..j].iter().all(|o| o.name != test.name),
                    "{}.{}",
                    suite.name,
                    test.name
                );
                assert!(
                    (1..=1200).contains(&test.limit),
                    "{}.{}",
                    suite.name,
                    test.name
                );
            }
        }
    }
}
