// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the tools' database says of the values of configuration items: least, largest, and rules, as
//! expressions over the parameters of items.
//!
//! The grammar, loosest first: `a ? b : c`, `||`, `&&`, `== !=`, `< <= > >=`, `+ -`, `* /`, `^`,
//! `log2(a)`, `(a)`, numbers, `$param` of the same item and `$item.param` of another. Numbers are
//! 64-bit; what cannot be computed (an overflow, a division by 0, an unknown name) binds nothing, unless
//! the other side of `&&` or `||` decides. `$_name` is an intermediate result, which the limit defines.

use fwctl_proto::mst::nv::Limit;

/// How deep expressions may be nested; the database's are at most half as deep.
const MAX_DEPTH: u32 = 32;

/// Values of parameters: item (none for the item that is set) and parameter.
pub type Values<'a> = &'a dyn Fn(Option<&str>, &str) -> Option<i64>;

/// True if `value` of the parameter is within its limits.
#[must_use]
pub fn holds(limit: &Limit, value: i64, values: Values<'_>) -> bool {
    let define = limit
        .define
        .strip_prefix('$')
        .and_then(|d| d.split_once('='));
    let values = |item: Option<&str>, param: &str| match define {
        Some((name, text)) if item.is_none() && name == param => eval(text, values),
        _ => values(item, param),
    };
    let of = |text: &str| eval(text, &values);
    of(limit.min).is_none_or(|least| value >= least)
        && of(limit.max).is_none_or(|most| value <= most)
        && of(limit.rule).is_none_or(|rule| rule != 0)
}

/// The value of an expression.
#[must_use]
pub fn eval(text: &str, values: Values<'_>) -> Option<i64> {
    let mut parser = Parser {
        rest: text.trim(),
        values,
        depth: 0,
    };
    let value = parser.choice()?;
    parser.rest.is_empty().then_some(value).flatten()
}

struct Parser<'a> {
    rest: &'a str,
    values: Values<'a>,
    depth: u32,
}

/// The outer `Option` is of the text, the inner of the value.
type Value = Option<Option<i64>>;

impl<'a> Parser<'a> {
    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn choice(&mut self) -> Value {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let condition = self.binary(0)?;
        let value = if self.take("?") {
            let yes = self.choice()?;
            if !self.take(":") {
                return None;
            }
            let no = self.choice()?;
            condition.and_then(|c| if c != 0 { yes } else { no })
        } else {
            condition
        };
        self.depth -= 1;
        Some(value)
    }

    fn binary(&mut self, level: usize) -> Value {
        let Some(tokens) = LEVELS.get(level) else {
            return self.primary();
        };
        let mut left = self.binary(level + 1)?;
        while let Some((_, apply)) = tokens.iter().find(|(token, _)| self.take(token)) {
            let right = self.binary(level + 1)?;
            left = apply.of(left, right);
        }
        Some(left)
    }

    fn primary(&mut self) -> Value {
        if self.take("log2(") {
            let value = self.choice()?;
            let log = |v: i64| u64::try_from(v).ok()?.checked_ilog2().map(i64::from);
            return self.take(")").then(|| value.and_then(log));
        }
        if self.take("(") {
            let value = self.choice()?;
            return self.take(")").then_some(value);
        }
        let name = self.rest.starts_with('$');
        let body = self.rest.strip_prefix('$').unwrap_or(self.rest);
        let word = |c: char| c.is_ascii_alphanumeric() || name && "_.".contains(c);
        let end = body.find(|c| !word(c)).unwrap_or(body.len());
        let (token, rest) = body.split_at(end);
        if token.is_empty() {
            return None;
        }
        self.rest = rest.trim_start();
        if !name {
            let number = match token.strip_prefix("0x") {
                Some(digits) => i64::from_str_radix(digits, 16).ok(),
                None => token.parse().ok(),
            };
            return number.map(Some);
        }
        let (item, param) = match token.split_once('.') {
            Some((item, param)) => (Some(item), param),
            None => (None, token),
        };
        Some((self.values)(item, param))
    }
}

/// What an operator makes of two values.
enum Apply {
    /// Of both.
    Both(fn(i64, i64) -> Option<i64>),
    /// A side that is this, 0 or not, decides alone.
    Decides(bool),
}

impl Apply {
    fn of(&self, left: Option<i64>, right: Option<i64>) -> Option<i64> {
        match self {
            Self::Both(apply) => left.zip(right).and_then(|(a, b)| apply(a, b)),
            Self::Decides(by) => {
                let sides = [left, right].map(|v| v.map(|v| v != 0));
                if sides.contains(&Some(*by)) {
                    return Some(i64::from(*by));
                }
                (!sides.contains(&None)).then_some(i64::from(!by))
            }
        }
    }
}

/// Operators, the loosest first; of those that begin alike the longer one first.
const LEVELS: &[&[(&str, Apply)]] = &[
    &[("||", Apply::Decides(true))],
    &[("&&", Apply::Decides(false))],
    &[
        ("==", Apply::Both(|a, b| Some(i64::from(a == b)))),
        ("!=", Apply::Both(|a, b| Some(i64::from(a != b)))),
    ],
    &[
        ("<=", Apply::Both(|a, b| Some(i64::from(a <= b)))),
        (">=", Apply::Both(|a, b| Some(i64::from(a >= b)))),
        ("<", Apply::Both(|a, b| Some(i64::from(a < b)))),
        (">", Apply::Both(|a, b| Some(i64::from(a > b)))),
    ],
    &[
        ("+", Apply::Both(i64::checked_add)),
        ("-", Apply::Both(i64::checked_sub)),
    ],
    &[
        ("*", Apply::Both(i64::checked_mul)),
        ("/", Apply::Both(i64::checked_div)),
    ],
    &[(
        "^",
        Apply::Both(|a, b| a.checked_pow(u32::try_from(b).ok()?)),
    )],
];

#[cfg(test)]
mod tests {
    use super::*;
    use fwctl_proto::mst::nv::ITEMS;

    fn value(text: &str) -> Option<i64> {
        eval(text, &|item, param| match (item, param) {
            (Some("cap"), "max") => Some(7),
            (None, "n") => Some(3),
            _ => None,
        })
    }

    #[test]
    fn expressions_are_computed_as_c_does() {
        for (text, want) in [
            ("1 + 2 * 3", 7),
            ("(1+2)*3", 9),
            ("2^3 - 10 / 4", 6),
            ("1 == 1 && 0 != 0 || 2 > 1", 1),
            ("$cap.max == 7 ? $n : 0", 3),
            ("$n<=3&&$n>=3&&$n<4", 1),
            ("log2(8)", 3),
            ("0x10", 16),
            ("($cap.max==0)?0:1", 1),
            ("1 || 1/0", 1),
            ("$nobody == 1 || 1", 1),
            ("1/0 && 0", 0),
        ] {
            assert_eq!(value(text), Some(want), "{text}");
        }
        for text in [
            "",
            "1 +",
            "(1",
            "1 1",
            "$",
            "$nobody",
            "1/0",
            "9223372036854775807+1",
            "log2(0)",
            "0 || 1/0",
            "1 && 1/0",
        ] {
            assert_eq!(value(text), None, "{text}");
        }
        assert_eq!(value(&"(".repeat(100_000)), None);
    }

    #[test]
    fn every_expression_of_the_database_is_understood() {
        let mut count = 0;
        for item in ITEMS {
            for l in item.limits {
                let define = l.define.split_once('=').unwrap_or_default();
                let uses = [l.min, l.max, l.rule].iter().any(|t| t.contains("$_"));
                assert_eq!(uses, define.0.starts_with("$_"), "{}", l.rule);
                for text in [l.min, l.max, l.rule, define.1]
                    .into_iter()
                    .filter(|t| !t.is_empty())
                {
                    let known = |of: Option<&str>, param: &str| {
                        let other = |name| ITEMS.iter().find(|i| i.layout.name == name);
                        if define.0.strip_prefix('$') == Some(param) {
                            return Some(1);
                        }
                        let item = of.map_or(Some(item), other);
                        let there =
                            item.is_some_and(|i| i.layout.fields.iter().any(|f| f.name == param));
                        assert!(there, "{text}: {of:?} {param}");
                        // Something is left of it when BARs were taken.
                        Some(if param == "max_total_bar" { 64 } else { 1 })
                    };
                    assert!(eval(text, &known).is_some(), "{text}");
                    count += 1;
                }
            }
        }
        assert!(count > 90, "{count}");
    }
}
