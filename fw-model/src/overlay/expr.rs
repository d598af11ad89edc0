// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Values of an overlay: `in.count + 1`, `var.last & 0xff`, `in.index >= 16`. Terms and operators
//! stand between spaces and are taken from left to right.

use std::collections::BTreeMap;

use fwctl_proto::layout::{LayoutInfo, get_bits};

/// Terms of one expression.
const MAX_TERMS: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Number(u64),
    /// A field of the inbox: offset and width.
    Field(u32, u32),
    Variable(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Subtract,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
    Equal,
    NotEqual,
    Less,
    Greater,
    AtMost,
    AtLeast,
}

const OPERATORS: &[(&str, Operator)] = &[
    ("+", Operator::Add),
    ("-", Operator::Subtract),
    ("&", Operator::And),
    ("|", Operator::Or),
    ("^", Operator::Xor),
    ("<<", Operator::ShiftLeft),
    (">>", Operator::ShiftRight),
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
];

/// A value that is computed from the inbox and from variables; arithmetic wraps at 64 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expr {
    first: Term,
    rest: Vec<(Operator, Term)>,
}

impl Expr {
    /// An expression over a command's inbox.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str, input: &LayoutInfo) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let first = term(words.next().ok_or("an empty expression")?, input)?;
        let mut rest = Vec::new();
        while let Some(word) = words.next() {
            let known = OPERATORS.iter().find(|o| o.0 == word);
            let (_, operator) = known.ok_or_else(|| format!("{word:?} is no operator"))?;
            let next = words
                .next()
                .ok_or_else(|| format!("nothing follows {word:?}"))?;
            rest.push((*operator, term(next, input)?));
        }
        if rest.len() >= MAX_TERMS {
            return Err(format!("more than {MAX_TERMS} terms"));
        }
        Ok(Self { first, rest })
    }

    /// A plain number.
    pub fn number(value: u64) -> Self {
        Self {
            first: Term::Number(value),
            rest: Vec::new(),
        }
    }

    /// Its value; a comparison is 1 or 0, and a variable that was never set is 0.
    pub fn value(&self, inbox: &[u8], vars: &BTreeMap<String, u64>) -> u64 {
        let of = |t: &Term| match t {
            Term::Number(n) => *n,
            Term::Field(offset, width) => get_bits(inbox, *offset, *width),
            Term::Variable(name) => vars.get(name).copied().unwrap_or(0),
        };
        self.rest.iter().fold(of(&self.first), |a, (operator, t)| {
            let b = of(t);
            match operator {
                Operator::Add => a.wrapping_add(b),
                Operator::Subtract => a.wrapping_sub(b),
                Operator::And => a & b,
                Operator::Or => a | b,
                Operator::Xor => a ^ b,
                Operator::ShiftLeft => u32::try_from(b)
                    .ok()
                    .and_then(|b| a.checked_shl(b))
                    .unwrap_or(0),
                Operator::ShiftRight => u32::try_from(b)
                    .ok()
                    .and_then(|b| a.checked_shr(b))
                    .unwrap_or(0),
                Operator::Equal => u64::from(a == b),
                Operator::NotEqual => u64::from(a != b),
                Operator::Less => u64::from(a < b),
                Operator::Greater => u64::from(a > b),
                Operator::AtMost => u64::from(a <= b),
                Operator::AtLeast => u64::from(a >= b),
            }
        })
    }
}

fn term(word: &str, input: &LayoutInfo) -> Result<Term, String> {
    if let Some(field) = word.strip_prefix("in.") {
        let place = input.field(field).filter(|p| p.width <= 64);
        let place = place.ok_or_else(|| format!("the inbox has no field {field:?}"))?;
        return Ok(Term::Field(place.offset, place.width));
    }
    if let Some(name) = word.strip_prefix("var.") {
        return Ok(Term::Variable(name.to_owned()));
    }
    let number = match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    };
    number
        .map(Term::Number)
        .ok_or_else(|| format!("{word:?} is no number, in.FIELD or var.NAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_from_left_to_right() {
        let layout = LayoutInfo {
            name: "none",
            bits: 0,
            fields: &[],
        };
        let vars = BTreeMap::from([("x".to_owned(), 7)]);
        let value = |text| Expr::parse(text, &layout).unwrap().value(&[], &vars);
        for (text, expected) in [
            ("1 + 2 - 4", u64::MAX),
            ("6 & 3 | 8 ^ 1", 11),
            ("1 << 4 >> 1", 8),
            ("1 << 64", 0),
            ("1 >> 99999999999", 0),
            ("var.x == 7", 1),
            ("var.x != 7", 0),
            ("var.y < 1", 1),
            ("var.x > 7", 0),
            ("var.x <= 7", 1),
            ("0x8 >= var.x", 1),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
        let long = format!("1{}", " + 1".repeat(MAX_TERMS));
        assert_eq!(
            Expr::parse(&long, &layout).unwrap_err(),
            "more than 16 terms"
        );
        assert!(Expr::parse("", &layout).is_err());
    }
}
