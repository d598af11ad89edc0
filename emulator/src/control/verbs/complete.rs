// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a shell completes behind `fwctl-emu ctl`: verbs, the names of their arguments, and values that
//! have names, from the tables that also check them.

use std::fmt::Write as _;

use clap::{Arg, Command, builder::PossibleValuesParser};
use clap_complete::Shell;
use fw_model::{Card, profile};
use fwctl_proto::{
    cap_type, event,
    mst::{self, nv},
    opcode, register, segment,
};

use super::{VERBS, Verb};

/// The program that is completed.
const NAME: &str = "fwctl-emu";

/// What bash calls: it breaks words at `=`, within the arguments of `ctl`, and wants to be told what stands
/// behind the last break.
const BASH: &str = r#"
_fwctl_emu() {
    local line=${COMP_LINE:0:COMP_POINT} cur before
    local -a COMP_WORDS
    read -ra COMP_WORDS <<<"$line"
    [[ $line != *[[:blank:]] ]] || COMP_WORDS+=("")
    local COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    cur=${COMP_WORDS[COMP_CWORD]}
    _fwctl__emu "${COMP_WORDS[0]}" "$cur" "${COMP_WORDS[COMP_CWORD - 1]}"
    if [[ $cur == *=* && $COMP_WORDBREAKS == *=* ]]; then
        before=${cur%"${cur##*=}"}
        COMPREPLY=("${COMPREPLY[@]#"$before"}")
    fi
    if [[ ${#COMPREPLY[@]} -eq 1 ]]; then
        # Its value comes next; of a value without a name, a file may do.
        [[ ${COMPREPLY[0]} != *= ]] || compopt -o nospace 2>/dev/null
        [[ -n ${COMPREPLY[0]} ]] || COMPREPLY=()
    fi
}
"#;

/// The script that completes this command line in a shell.
#[must_use]
pub fn script(shell: Shell, whole: Command) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut completed(whole), NAME, &mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    match shell {
        Shell::Bash => {
            // clap_complete (4.6.11) writes the name in two ways and then does not find what it looks for.
            let text = text.replace("fwctl__subcmd__emu", "fwctl__emu");
            let text = text.replace("complete -F _fwctl__emu ", "complete -F _fwctl_emu ");
            text + BASH
        }
        // It leaves out the values of arguments.
        Shell::Fish => text + &fish(),
        _ => text,
    }
}

/// The arguments of each verb, for fish.
fn fish() -> String {
    let mut text = String::new();
    for v in VERBS.iter().filter(|v| !v.arguments.is_empty()) {
        let files = if v.arguments.iter().any(|a| a.1 == "FILE") {
            ""
        } else {
            " -f"
        };
        let _ = writeln!(
            text,
            "complete -c {NAME} -n \"__fish_fwctl_emu_using_subcommand ctl; and \
             __fish_seen_subcommand_from {}\"{files} -a \"{}\"",
            v.name,
            all_words(v).join(" ")
        );
    }
    text
}

/// Every word that may stand behind a verb.
fn all_words(v: &Verb) -> Vec<String> {
    let all = v.arguments.iter();
    all.flat_map(|(name, form, _)| words(v.name, name, form))
        .collect()
}

/// The command line with each verb of `ctl` as a command of its own: for a shell's completion, as the
/// program itself takes verbs and arguments as they come.
fn completed(whole: Command) -> Command {
    whole.mut_subcommand("ctl", |ctl| {
        let options = ctl.get_arguments().filter(|a| !a.is_positional());
        let all = Command::new("ctl")
            .about(ctl.get_about().cloned().unwrap_or_default())
            .args(options.cloned());
        all.subcommands(VERBS.iter().map(|v| {
            let words = all_words(v);
            let verb = Command::new(v.name).about(v.about);
            if words.is_empty() {
                return verb;
            }
            let values = PossibleValuesParser::new(words);
            verb.arg(Arg::new("arguments").num_args(0..).value_parser(values))
        }))
    })
}

/// An argument with each value that has a name, or without one.
fn words(verb: &str, name: &str, form: &str) -> Vec<String> {
    let values = values(verb, name, form);
    if values.is_empty() {
        return vec![format!("{name}=")];
    }
    values.iter().map(|v| format!("{name}={v}")).collect()
}

fn values(verb: &str, name: &str, form: &str) -> Vec<String> {
    fn all<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
        names.map(str::to_owned).collect()
    }
    let named = |of: fn(u16) -> Option<&'static str>| (0..=u16::MAX).filter_map(of);
    match (verb, name, form) {
        (_, _, "0|1") => all(["0", "1"].into_iter()),
        (_, "opcode", _) => all(named(opcode::name)),
        ("event", "type", _) => all((0..=u8::MAX).filter_map(event::name)),
        ("set-capability", "type", _) => {
            let names = cap_type::ALL.iter().map(|c| c.1.to_ascii_lowercase());
            names.filter(|n| profile::cap_layout(n).is_ok()).collect()
        }
        ("health", "syndrome", _) => all(segment::health::SYNDROMES.iter().map(|s| s.1)),
        ("register" | "set-register", "name", _) => {
            let of_tools = mst::REGISTERS.iter().map(|r| r.layout.name);
            let mut names = all(named(register::name).chain(of_tools));
            names.sort_unstable();
            names.dedup();
            names
        }
        ("config", "item", _) => all(nv::ITEMS.iter().map(|i| i.layout.name)),
        ("objects", "kind", _) => all(Card::kinds()),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_and_argument_is_there_with_the_values_that_have_names() {
        let whole = completed(
            Command::new("x").subcommand(
                Command::new("ctl")
                    .arg(Arg::new("control").long("control"))
                    .arg(Arg::new("query")),
            ),
        );
        let ctl = whole.find_subcommand("ctl").unwrap();
        assert!(ctl.get_arguments().all(|a| !a.is_positional()));
        for v in VERBS {
            let verb = ctl.find_subcommand(v.name).unwrap();
            let words: Vec<_> = verb
                .get_positionals()
                .flat_map(Arg::get_possible_values)
                .map(|p| p.get_name().to_owned())
                .collect();
            for (name, ..) in v.arguments {
                let begins = format!("{name}=");
                assert!(words.iter().any(|w| w.starts_with(&begins)), "{}", v.name);
            }
        }
        let has = |verb: &str, word: &str| {
            let verb = ctl.find_subcommand(verb).unwrap();
            let all = verb.get_positionals().flat_map(Arg::get_possible_values);
            all.into_iter().any(|p| p.get_name() == word)
        };
        assert!(has("event", "type=PORT_CHANGE") && has("delay", "opcode=NOP"));
        assert!(has("register", "name=PAOS") && has("register", "name=MNVDA"));
        assert!(has("health", "syndrome=FW_INTERNAL_ERR") && has("link", "up=1"));
        assert!(has("objects", "kind=cq") && has("fault", "then="));
        assert!(has("set-capability", "type=general"));
    }
}
