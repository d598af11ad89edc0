// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A case: what goes wrong, and what the guest does meanwhile. All of it follows from the seed.

use core::fmt;

use fw_model::table::{self, Coverage};
use fwctl_proto::{event, opcode, register, status::Status};

/// What the guest does with the device (guest-tests/driver-fuzz/workload).
pub const WORKLOADS: [&str; 4] = ["probe", "rpc", "netdev", "reload"];

/// One case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its seed, and that of the card.
    pub seed: u64,
    /// Faults, in the grammar of docs/faults.md.
    pub faults: Vec<String>,
    /// One of [`WORKLOADS`].
    pub workload: &'static str,
}

/// A small generator; the same numbers for the same seed, on every machine.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        // SplitMix64, as published: a counter and a mixer.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let at = usize::try_from(self.below(from.len() as u64)).ok()?;
        from.get(at).copied()
    }
}

/// Commands that the driver sends when it starts, goes on and ends.
fn opcodes() -> Vec<&'static str> {
    let rows = table::OPS.iter();
    let there = rows.filter(|r| matches!(r.coverage(), Coverage::Implemented));
    there.filter_map(|r| opcode::name(r.opcode)).collect()
}

/// Statuses that a command may fail with.
fn statuses() -> Vec<&'static str> {
    let bad = Status::ALL.iter().filter(|s| s.code() != 0);
    bad.map(|s| s.name()).collect()
}

/// Types of events but the completion of a command: one that names a slot without a command is known to
/// crash the driver (docs/faults.md, `other-slot`).
fn events() -> Vec<&'static str> {
    let all = (0..=u8::MAX).filter(|n| *n != event::CMD);
    all.filter_map(event::name).collect()
}

impl Case {
    /// The case of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let workload = dice.pick(&WORKLOADS).unwrap_or(WORKLOADS[0]);
        let lines = 1 + dice.below(2);
        let faults = (0..lines).map(|_| line(&mut dice)).collect();
        Self {
            seed,
            faults,
            workload,
        }
    }
}

/// Which of a case's faults can change a byte that the driver reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// Each of them.
    All,
    /// One does, another only takes time or refrains.
    Some,
    /// None.
    None,
}

impl Case {
    /// Whether its faults change bytes, or only let the device be late or silent.
    #[must_use]
    pub fn changes(&self) -> Changes {
        let only_time = |f: &String| {
            let then = f.split(" : ").nth(1).unwrap_or_default();
            then.starts_with("delay=") || ["no-event", "lost"].contains(&then)
        };
        match self.faults.iter().filter(|f| only_time(f)).count() {
            0 => Changes::All,
            n if n == self.faults.len() => Changes::None,
            _ => Changes::Some,
        }
    }

    /// A hash of all that it says: cases of one seed differ when the generator or its tables do.
    #[must_use]
    pub fn hash(&self) -> String {
        format!("{:016x}", fw_fuzz::hash(self.to_string().as_bytes()))
    }
}

/// One fault. Those that end an answer for good are rare: each costs the driver's time-out.
fn line(dice: &mut Dice) -> String {
    let nth = 1 + dice.below(60);
    let fields = 1 + dice.below(6);
    let percent = [2, 5, 10, 30][dice.below(4) as usize];
    let of = |name: Option<&str>| name.unwrap_or("NOP").to_owned();
    match dice.below(20) {
        // What the card can do: 0 to 60 pages are asked for in a probe.
        0..5 => format!(
            "opcode=QUERY_HCA_CAP nth={} : mutate={} : times={}",
            1 + dice.below(40),
            fields * 2,
            1 + dice.below(4)
        ),
        5..9 => format!("any percent={percent} : mutate={fields} : times=0"),
        9..12 => {
            let name = of(dice.pick(&opcodes()));
            format!("opcode={name} percent=50 : mutate={fields} : times=0")
        }
        12..14 => {
            let names = [
                register::PMAOS,
                register::PMLP,
                register::PTYS,
                register::PAOS,
                register::MCIA,
                register::MTRC_CAP,
                register::PPCNT,
            ];
            let name = of(dice.pick(&names).and_then(register::name));
            format!("register={name} : mutate={fields} : times=0")
        }
        14..16 => {
            let status = of(dice.pick(&statuses()));
            let syndrome = dice.below(1 << 32);
            let times = 1 + dice.below(3);
            format!("any nth={nth} : status={status} syndrome={syndrome} : times={times}")
        }
        16..18 => {
            let name = of(dice.pick(&events()));
            let count = 1 + dice.below(20);
            format!(
                "any nth={nth} : raise={name} random-data count={count} : times={}",
                1 + dice.below(20)
            )
        }
        18 => {
            let name = of(dice.pick(&opcodes()));
            format!("opcode={name} percent=50 : fill=random : times=0")
        }
        _ => match dice.below(5) {
            0 => format!(
                "any percent={percent} : delay={} : times=0",
                dice.below(100)
            ),
            1 => format!("any nth={nth} : token={} : times=10", dice.below(256)),
            2 => format!("any nth={nth} : no-event : times=1"),
            3 => format!("any nth={nth} : cut={} : times=5", 8 + dice.below(64)),
            _ => format!("any nth={nth} : lost : times=1"),
        },
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: workload {}", self.seed, self.workload)?;
        self.faults
            .iter()
            .try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fw_model::fault::Fault;

    #[test]
    fn every_seed_says_what_the_grammar_knows() {
        for seed in 0..5000 {
            let case = Case::of(seed);
            assert_eq!(case, Case::of(seed));
            assert!(!case.faults.is_empty());
            for f in &case.faults {
                assert!(
                    Fault::parse(f).is_ok(),
                    "seed {seed}: {:?}",
                    Fault::parse(f)
                );
            }
        }
    }

    #[test]
    fn everything_that_can_go_wrong_does_in_some_case() {
        let all: Vec<_> = (0..2000).flat_map(|s| Case::of(s).faults).collect();
        for word in [
            "QUERY_HCA_CAP nth",
            "any percent",
            "register=",
            "status=",
            "raise=",
            "fill=",
            "delay=",
            "token=",
            "no-event",
            "cut=",
            "lost",
        ] {
            assert!(all.iter().any(|f| f.contains(word)), "{word}");
        }
        for w in WORKLOADS {
            assert!((0..100).any(|s| Case::of(s).workload == w), "{w}");
        }
    }

    #[test]
    fn a_case_knows_whether_it_changes_bytes() {
        let case = |faults: &[&str]| Case {
            seed: 1,
            faults: faults.iter().map(|f| (*f).into()).collect(),
            workload: "probe",
        };
        let (late, lost) = (
            "any percent=5 : delay=7 : times=0",
            "any nth=4 : lost : times=1",
        );
        let wrong = "any percent=2 : mutate=3 : times=0";
        let quiet = "any nth=3 : no-event : times=1";
        assert_eq!(case(&[late]).changes(), Changes::None);
        assert_eq!(case(&[lost, quiet]).changes(), Changes::None);
        assert_eq!(case(&[late, wrong]).changes(), Changes::Some);
        assert_eq!(case(&[wrong]).changes(), Changes::All);
        assert_eq!(
            case(&[wrong, "any : status=BAD_RES"]).changes(),
            Changes::All
        );
        assert_ne!(Case::of(1).hash(), Case::of(2).hash());
    }
}
