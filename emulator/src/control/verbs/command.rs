// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Commands that verbs try, and errors that speak of the verbs' own arguments.

use fw_model::{
    fault::{Message, Target, answer_field, message, register_field},
    nearest, reg,
};
use fwctl_proto::{
    layout::set_bits,
    mst::{self, nv},
};

use super::{Wrong, bad};
use crate::trace::parse_register;

/// Where a register lies in ACCESS_REG, in bytes, and in bits.
pub(super) const REGISTER_BYTE: usize = reg::DATA;
const REGISTER: u32 = REGISTER_BYTE as u32 * 8;

/// What an error says of the message around a register.
const OF_MESSAGE: &str = " or access_register_out";

/// The command that `try` is given.
pub(super) fn tried(command: &str) -> Result<Message, Wrong> {
    message(command).map_err(|e| bad(format!("command: {}", e.what)))
}

/// A register's id by name or number, and a read of it: `at` are fields of it, which choose a part.
pub(super) fn register_read(name: &str, at: &str) -> Result<(u16, Message), Wrong> {
    let id = parse_register(name).map_err(|e| bad(format!("name: {e}")))?;
    let number = format!("{id:#x}");
    let m = tried(&format!("register={number}"))?;
    let has_fields = reg::find(id).is_some_and(|r| r.layout.is_some()) || mst::find(id).is_some();
    let m = chosen(m, at, |_, path| {
        if !has_fields {
            return Err(format!("no field of {name} is known"));
        }
        let (_, mut t) = register_field(&number, path)?;
        t.offset += REGISTER;
        Ok(t)
    })?;
    Ok((id, m))
}

/// A read of a configuration item, with this access mode of MNVDA.
pub(super) fn item_read(name: &str, mode: u8, at: &str) -> Result<Message, Wrong> {
    let lower = name.to_ascii_lowercase();
    if nv::named(&lower).is_none() {
        let meant = nearest(&lower, nv::ITEMS.iter().map(|i| i.layout.name));
        return Err(bad(format!(
            "item: {name:?} is no configuration item{meant}"
        )));
    }
    let read = format!("item={lower} configuration_item_header.access_mode={mode}");
    chosen(tried(&read)?, at, |inbox, path| {
        let found = answer_field(inbox, path).map_err(|e| e.replace(OF_MESSAGE, ""))?;
        // What is before the register is the message's own.
        match found.offset {
            REGISTER.. => Ok(found),
            _ => Err(format!("{path}: no field of {name}")),
        }
    })
}

/// A command with the fields that `at` says.
fn chosen(
    mut m: Message,
    at: &str,
    find: impl Fn(&[u8], &str) -> Result<Target, String>,
) -> Result<Message, Wrong> {
    let mut seen = Vec::new();
    for word in at.split_whitespace() {
        let wrong = |what: &str| bad(format!("at: {what}"));
        let (path, value) = word.split_once('=').unwrap_or((word, ""));
        let field = find(&m.inbox, path).map_err(|e| wrong(&e))?;
        if value.is_empty() {
            return Err(wrong(&format!("{path}: it has no value; give {path}=N")));
        }
        if seen.contains(&path) {
            return Err(wrong(&format!("{path} is there twice")));
        }
        seen.push(path);
        let value = field.value(path, value).map_err(|e| wrong(&e))?;
        set_bits(&mut m.inbox, field.offset, field.width, value);
    }
    Ok(m)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong<T: std::fmt::Debug>(r: Result<T, Wrong>) -> String {
        match r {
            Err(Wrong::Argument(e)) => e,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_wrong_with_a_register_is_said_in_its_own_words() {
        let said = wrong(register_read("PAOSS", ""));
        assert!(
            said.starts_with("name: \"PAOSS\" is no register; did you mean PAOS"),
            "{said}"
        );
        let said = wrong(register_read("PAOS", "local_portt=1"));
        assert_eq!(
            said,
            "at: local_portt: no field of paos_reg; did you mean local_port?"
        );
        let said = wrong(register_read("PAOS", "local_port"));
        assert_eq!(said, "at: local_port: it has no value; give local_port=N");
        let said = wrong(register_read("PAOS", "local_port=x"));
        assert_eq!(said, "at: local_port=x is not a number");
        let said = wrong(register_read("PAOS", "local_port=1 local_port=1"));
        assert_eq!(said, "at: local_port is there twice");
        let said = wrong(register_read("0x7777", "a=1"));
        assert_eq!(said, "at: no field of 0x7777 is known");
        let (id, m) = register_read("paos", "local_port=1").unwrap();
        assert_eq!(m, message("register=PAOS local_port=1").unwrap());
        assert_eq!(id, 0x5006);
    }

    #[test]
    fn what_is_wrong_with_an_item_or_a_command_is_said_in_its_own_words() {
        let said = wrong(item_read("nv_crypto_con", 0, ""));
        let want = "item: \"nv_crypto_con\" is no configuration item; did you mean nv_crypto_conf";
        assert!(said.starts_with(want), "{said}");
        let said = wrong(item_read("nv_crypto_conf", 0, "status=1"));
        assert_eq!(said, "at: status: no field of nv_crypto_conf");
        let said = wrong(item_read("nv_crypto_conf", 0, "fly=1"));
        assert_eq!(said, "at: fly: no field of nv_crypto_conf or MNVDA");
        for command in ["opcod=NOP", "opcode=NOP x", "opcode=NOP fly=1"] {
            let said = wrong(tried(command));
            let of_faults = ["nth=", "percent=", "state=", "fault"];
            assert!(!of_faults.iter().any(|w| said.contains(w)), "{said}");
            assert!(said.contains("there are opcode="), "{said}");
        }
    }
}
