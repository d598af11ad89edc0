// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a fault may do, as a table: for the parser's messages, `explain`, `list actions` and docs/faults.md.

use Point::{Before, Effects, Reply};

/// At which of the three points something happens to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Before it is executed.
    Before,
    /// To its answer.
    Reply,
    /// To how it is answered, and besides.
    Effects,
}

impl Point {
    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Before => "before",
            Reply => "reply",
            Effects => "effects",
        }
    }
}

/// What a fault may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// The word; of `set.FIELD` the part behind the dot is a field's path.
    pub name: &'static str,
    /// What is to be given behind `=`; empty for a word alone.
    pub value: &'static str,
    /// Where it acts.
    pub point: Point,
    /// What happens.
    pub about: &'static str,
}

impl Action {
    /// As it is written, `delay=MS`.
    #[must_use]
    pub fn form(&self) -> String {
        match self.value {
            "" => self.name.to_owned(),
            value => format!("{}={value}", self.name),
        }
    }
}

const fn action(
    name: &'static str,
    value: &'static str,
    point: Point,
    about: &'static str,
) -> Action {
    Action {
        name,
        value,
        point,
        about,
    }
}

/// What a fault may do.
pub const ACTIONS: &[Action] = &[
    action(
        "status",
        "NAME",
        Before,
        "the command is not executed and is answered with this status",
    ),
    action(
        "syndrome",
        "N",
        Before,
        "with `status`: its syndrome, else 0",
    ),
    action(
        "silent",
        "",
        Before,
        "it is not executed and never answered",
    ),
    action("lost", "", Reply, "it is executed and never answered"),
    action(
        "stop",
        "",
        Reply,
        "it is executed, and its answer waits for `ctl continue` (docs/debugging.md)",
    ),
    action(
        "delay",
        "MS",
        Reply,
        "it is answered so many milliseconds later; other slots go on",
    ),
    action(
        "set.FIELD",
        "N|NAME",
        Reply,
        "a field of the outbox has this value",
    ),
    action(
        "fill",
        "0|1|random",
        Reply,
        "every byte of the outbox behind status and syndrome is 0, 0xff, or random",
    ),
    action(
        "reserved",
        "0|1|random",
        Reply,
        "every bit of the outbox that no layout names is 0, 1, or random; what nobody knows the layout of stays",
    ),
    action(
        "mutate",
        "N",
        Reply,
        "so many fields of the outbox, chosen by the seed among those that the layouts name, get 0, ones, a bit flipped, one more, one less, or a random value",
    ),
    action(
        "cut",
        "N",
        Reply,
        "of the outbox only the first so many bytes are there, the rest is zero",
    ),
    action(
        "delivery",
        "NAME",
        Effects,
        "the entry says that the command was not delivered, although it was executed",
    ),
    action("token", "N", Effects, "the entry has this token"),
    action("signature", "", Effects, "the entry's signature is wrong"),
    action(
        "owner",
        "",
        Effects,
        "the entry stays the firmware's; the event comes",
    ),
    action(
        "no-event",
        "",
        Effects,
        "the answer is there and no event tells of it",
    ),
    action("other-slot", "N", Effects, "the event names another slot"),
    action("twice", "", Effects, "the answer and its event come twice"),
    action(
        "event-owner",
        "",
        Effects,
        "the event that tells of it has the wrong owner bit",
    ),
    action(
        "event-type",
        "NAME",
        Effects,
        "the event that tells of it has another type",
    ),
    action(
        "no-interrupt",
        "",
        Effects,
        "the event is there and its interrupt is lost",
    ),
    action("interrupts", "N", Effects, "so many more interrupts come"),
    action(
        "late-interrupt",
        "MS",
        Effects,
        "the interrupt comes so many milliseconds later",
    ),
    action(
        "raise",
        "NAME",
        Effects,
        "the firmware raises an event of this type",
    ),
    action(
        "random-data",
        "",
        Effects,
        "with `raise`: its data is random, else zero",
    ),
    action("count", "N", Effects, "with `raise`: so often, a storm"),
    action(
        "page-demand",
        "N",
        Effects,
        "it asks for so many pages, or gives some back if negative",
    ),
    action(
        "cable",
        "0|1",
        Effects,
        "the cable of the function's port is pulled (0) or plugged (1)",
    ),
    action("health", "NAME", Effects, "it reports this health syndrome"),
    action(
        "fatal",
        "",
        Effects,
        "with `health`: it executes nothing more and asks for a reset",
    ),
    action(
        "hang",
        "",
        Effects,
        "it executes nothing more and its health counter stands",
    ),
    action(
        "frozen-counter",
        "",
        Effects,
        "only its health counter stands",
    ),
    action(
        "starting",
        "MS",
        Effects,
        "it says for so many milliseconds that it starts, and executes nothing",
    ),
    action(
        "stray-write",
        "N",
        Effects,
        "it writes 64 bytes 0xdb to the guest address that the inbox has at this byte (64 bits, big-endian)",
    ),
    action(
        "removal",
        "",
        Effects,
        "the function is pulled out of its slot, as by `ctl surprise-removal`; on vfio-user only",
    ),
    action(
        "crash",
        "",
        Effects,
        "the emulator ends by SIGABRT; trace and record are written first",
    ),
    action(
        "panic",
        "",
        Effects,
        "the model fails, as by a bug of it: docs/architecture.md, \"Containment\"",
    ),
];

/// Words that do not go together: what the first one does leaves nothing to do for the others.
const NEVER: &[&str] = &[
    "status",
    "lost",
    "stop",
    "delay",
    "set.FIELD",
    "fill",
    "reserved",
    "mutate",
    "cut",
    "delivery",
    "token",
    "signature",
    "owner",
    "no-event",
    "other-slot",
    "twice",
    "event-owner",
    "event-type",
    "no-interrupt",
    "interrupts",
    "late-interrupt",
];
const CONFLICTS: &[(&str, &[&str], &str)] = &[
    ("silent", NEVER, "it is never answered"),
    ("lost", NEVER, "it is never answered"),
    (
        "no-event",
        &[
            "other-slot",
            "event-owner",
            "event-type",
            "no-interrupt",
            "interrupts",
            "late-interrupt",
        ],
        "there is no event",
    ),
    (
        "no-interrupt",
        &["interrupts", "late-interrupt"],
        "there is no interrupt",
    ),
];

/// The action that a word of a fault is, without its value.
pub(super) fn named(word: &str) -> Option<&'static Action> {
    let word = if word.starts_with("set.") {
        "set.FIELD"
    } else {
        word
    };
    ACTIONS.iter().find(|a| a.name == word)
}

/// Checks that words make sense together.
///
/// # Errors
/// A word is there twice, or leaves another nothing to do.
pub(super) fn together(words: &[&str]) -> Result<(), String> {
    super::parse::once(words)?;
    let is = |word: &str, name: &str| named(word).is_some_and(|a| a.name == name);
    for (first, others, why) in CONFLICTS {
        if !words.contains(first) {
            continue;
        }
        let mut rest = words.iter().filter(|w| *w != first);
        if let Some(other) = rest.find(|w| others.iter().any(|o| is(w, o))) {
            return Err(format!("{first} does not go with {other}: {why}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Fault, Then, Twist},
        *,
    };

    /// A value of each action.
    const VALUES: &[(&str, &str)] = &[
        ("status", "BAD_RES"),
        ("syndrome", "7"),
        ("delay", "5"),
        ("set.FIELD", "1"),
        ("fill", "random"),
        ("reserved", "1"),
        ("mutate", "3"),
        ("cut", "8"),
        ("delivery", "TOK_ERR"),
        ("token", "7"),
        ("other-slot", "3"),
        ("event-type", "CMD"),
        ("interrupts", "3"),
        ("late-interrupt", "5"),
        ("raise", "CMD"),
        ("count", "3"),
        ("page-demand", "-3"),
        ("cable", "1"),
        ("health", "FW_INTERNAL_ERR"),
        ("starting", "5"),
        ("stray-write", "16"),
    ];

    #[test]
    fn each_action_is_known_and_acts_at_its_point() {
        for a in ACTIONS {
            let value = VALUES.iter().find(|v| v.0 == a.name);
            assert_eq!(value.is_some(), !a.value.is_empty(), "{}", a.name);
            let word = a.name.replace("FIELD", "status");
            let word = value.map_or(word.clone(), |v| format!("{word}={}", v.1));
            let with = match a.name {
                "syndrome" => "status=BAD_RES ",
                "count" | "random-data" => "raise=CMD ",
                "fatal" => "health=FW_INTERNAL_ERR ",
                _ => "",
            };
            let t = Fault::of("opcode=NOP", &format!("{with}{word}"), None)
                .unwrap()
                .then;
            let effects = Then {
                twist: t.twist,
                acts: t.acts.clone(),
                ..Then::default()
            };
            let before = Then {
                status: t.status,
                syndrome: t.syndrome,
                silent: t.silent,
                ..Then::default()
            };
            let point = if t == effects {
                assert!(t.twist != Twist::default() || !t.acts.is_empty());
                Effects
            } else if t == before {
                Before
            } else {
                assert_eq!(t.twist, Twist::default());
                Reply
            };
            assert_eq!(point, a.point, "{}", a.name);
        }
    }

    #[test]
    fn every_name_of_a_conflict_is_an_action() {
        for (first, others, _) in CONFLICTS {
            assert!(named(first).is_some(), "{first}");
            for o in *others {
                assert!(ACTIONS.iter().any(|a| a.name == *o), "{o}");
            }
        }
    }
}
