// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A parser of the `struct mlx5_ifc_*_bits` in a C header: tokens, then a tree of members, then
//! sums of widths. It knows that much C and no more.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// A member with its place.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Bits from the start of the layout.
    pub offset: u32,
    /// Bits of an element.
    pub width: u32,
    /// Elements; 0 for a tail.
    pub count: u32,
    /// The layout that it is.
    pub nested: Option<String>,
}

/// A member as it is written.
enum Written {
    /// `u8 name[dims];`
    Bits(String, Vec<u32>),
    /// `struct mlx5_ifc_layout_bits name[dims];`
    Layout(String, String, Vec<u32>),
    /// `union { ... } name;`, the name empty if there is none.
    Inner(Body, String),
}

/// What is between the braces.
struct Body {
    union: bool,
    members: Vec<Written>,
}

/// All layouts of a header.
pub struct Header {
    bodies: BTreeMap<String, Body>,
    placed: BTreeMap<String, (u32, Vec<Member>)>,
}

impl Header {
    /// Reads a header, or several one behind the other.
    pub fn parse(text: &str) -> Result<Self> {
        let (tokens, macros) = tokens(text);
        let mut reader = Reader {
            tokens: &tokens,
            macros: &macros,
            at: 0,
        };
        let mut bodies = BTreeMap::new();
        while let Some(token) = tokens.get(reader.at) {
            reader.at += 1;
            let name = reader.peek(0);
            if !is_aggregate(token) || !name.starts_with(PREFIX) || reader.peek(1) != "{" {
                continue;
            }
            let name = layout_name(name)?;
            reader.at += 2;
            let body = reader
                .body(token == "union")
                .with_context(|| format!("in {name}"))?;
            ensure!(bodies.insert(name.clone(), body).is_none(), "{name} twice");
        }
        let names: Vec<_> = bodies.keys().cloned().collect();
        let mut header = Self {
            bodies,
            placed: BTreeMap::new(),
        };
        for name in names {
            header.place(&name)?;
        }
        Ok(header)
    }

    /// Bits and members of a layout.
    pub fn layout(&self, name: &str) -> Result<(u32, &[Member])> {
        let (bits, members) = self.placed.get(name).context("not in the header")?;
        Ok((*bits, members))
    }

    /// Names of all layouts.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.placed.keys().map(String::as_str)
    }

    fn place(&mut self, name: &str) -> Result<u32> {
        if let Some((bits, _)) = self.placed.get(name) {
            return Ok(*bits);
        }
        let body = self.bodies.remove(name);
        let body = body.with_context(|| format!("{name} is not defined, or holds itself"))?;
        let mut members = Vec::new();
        let bits = self.place_body(&body, name, 0, &mut members)?;
        self.placed.insert(name.to_owned(), (bits, members));
        Ok(bits)
    }

    /// Appends the members of `body`, which begins at bit `start` of `owner`; its size in bits.
    fn place_body(
        &mut self,
        body: &Body,
        owner: &str,
        start: u32,
        out: &mut Vec<Member>,
    ) -> Result<u32> {
        let (mut sum, mut widest) = (0, 0);
        for written in &body.members {
            let offset = if body.union { start } else { start + sum };
            let bits = match written {
                Written::Bits(name, dims) => {
                    let (count, width) = match dims[..] {
                        [0] => (0, 1),
                        [width] => (1, width),
                        [count, width] => (count, width),
                        _ => bail!("{owner}.{name}: {} dimensions", dims.len()),
                    };
                    out.push(member(name, offset, width, count, None));
                    count * width
                }
                Written::Layout(layout, name, dims) => {
                    let width = self.place(layout)?;
                    let count = match dims[..] {
                        [] => 1,
                        [count] => count,
                        _ => bail!("{owner}.{name}: {} dimensions", dims.len()),
                    };
                    out.push(member(name, offset, width, count, Some(layout.clone())));
                    count * width
                }
                Written::Inner(inner, name) if name.is_empty() => {
                    self.place_body(inner, owner, offset, out)?
                }
                Written::Inner(inner, name) => {
                    let layout = format!("{owner}_{name}");
                    let mut members = Vec::new();
                    let width = self.place_body(inner, &layout, 0, &mut members)?;
                    out.push(member(name, offset, width, 1, Some(layout.clone())));
                    self.placed.insert(layout, (width, members));
                    width
                }
            };
            sum += bits;
            widest = widest.max(bits);
        }
        Ok(if body.union { widest } else { sum })
    }
}

fn member(name: &str, offset: u32, width: u32, count: u32, nested: Option<String>) -> Member {
    Member {
        name: name.to_owned(),
        offset,
        width,
        count,
        nested,
    }
}

const PREFIX: &str = "mlx5_ifc_";

fn is_aggregate(token: &str) -> bool {
    matches!(token, "struct" | "union")
}

/// `mlx5_ifc_eqc_bits` is `eqc`; a few types have no suffix, or have more behind it.
fn layout_name(c_name: &str) -> Result<String> {
    let name = c_name.strip_prefix(PREFIX).context("not a layout's name")?;
    Ok(name.strip_suffix("_bits").unwrap_or(name).to_owned())
}

struct Reader<'a> {
    tokens: &'a [String],
    macros: &'a BTreeMap<String, Vec<String>>,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The token `n` ahead; nothing at the end.
    fn peek(&self, n: usize) -> &'a str {
        self.tokens.get(self.at + n).map_or("", String::as_str)
    }

    fn next(&mut self) -> &'a str {
        let token = self.peek(0);
        self.at += 1;
        token
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        let found = self.next();
        ensure!(found == token, "{found:?} where {token:?} should be");
        Ok(())
    }

    /// Members up to the closing brace.
    fn body(&mut self, union: bool) -> Result<Body> {
        let mut members = Vec::new();
        while self.peek(0) != "}" {
            let member = match self.next() {
                "u8" | "__u8" => Written::Bits(self.next().to_owned(), self.dimensions()?),
                kind if is_aggregate(kind) && self.peek(0) == "{" => {
                    self.at += 1;
                    let inner = self.body(kind == "union")?;
                    let name = if self.peek(0) == ";" { "" } else { self.next() };
                    Written::Inner(inner, name.to_owned())
                }
                kind if is_aggregate(kind) => {
                    let layout = layout_name(self.next())?;
                    Written::Layout(layout, self.next().to_owned(), self.dimensions()?)
                }
                "DECLARE_FLEX_ARRAY" => {
                    self.expect("(")?;
                    let kind = self.next();
                    ensure!(is_aggregate(kind), "a flexible array of {kind:?}");
                    let layout = layout_name(self.next())?;
                    self.expect(",")?;
                    let name = self.next().to_owned();
                    self.expect(")")?;
                    Written::Layout(layout, name, vec![0])
                }
                other => bail!("a member that begins with {other:?}"),
            };
            self.expect(";")?;
            members.push(member);
        }
        self.at += 1;
        Ok(Body { union, members })
    }

    /// `[a][b]`; empty brackets are 0.
    fn dimensions(&mut self) -> Result<Vec<u32>> {
        let mut dims = Vec::new();
        while self.peek(0) == "[" {
            self.at += 1;
            let from = self.at;
            while !matches!(self.peek(0), "]" | "") {
                self.at += 1;
            }
            dims.push(self.sum(&self.tokens[from..self.at], MACRO_DEPTH)?);
            self.expect("]")?;
        }
        Ok(dims)
    }

    /// A sum of numbers and of macros for numbers.
    fn sum(&self, tokens: &[String], depth: u32) -> Result<u32> {
        ensure!(depth != 0, "macros nest too deep");
        let mut sum = 0;
        for t in tokens {
            sum += match t.as_str() {
                "(" | ")" | "+" => 0,
                hex if hex.starts_with("0x") => u32::from_str_radix(&hex[2..], 16)?,
                word => match self.macros.get(word) {
                    Some(value) => self.sum(value, depth - 1)?,
                    None => word
                        .parse()
                        .with_context(|| format!("{word:?} is no number"))?,
                },
            };
        }
        Ok(sum)
    }
}

/// Macros in macros that are followed.
const MACRO_DEPTH: u32 = 8;

/// The tokens outside of preprocessor lines, and the macros without parameters.
fn tokens(text: &str) -> (Vec<String>, BTreeMap<String, Vec<String>>) {
    let (mut all, mut macros) = (Vec::new(), BTreeMap::new());
    let text = without_comments(text).replace("\\\n", " ");
    for line in text.lines() {
        let Some(directive) = line.trim_start().strip_prefix('#') else {
            split(line, &mut all);
            continue;
        };
        let mut words = Vec::new();
        split(directive, &mut words);
        if words.len() > 2 && words[0] == "define" {
            macros.insert(words[1].clone(), words[2..].to_vec());
        }
    }
    (all, macros)
}

/// Words, and everything else a character each; strings are left out.
fn split(line: &str, out: &mut Vec<String>) {
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '"' {
            while chars.next().is_some_and(|c| c != '"') {}
        } else if c.is_alphanumeric() || c == '_' {
            let mut word = String::from(c);
            while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                word.push(c);
            }
            out.push(word);
        } else if !c.is_whitespace() {
            out.push(c.into());
        }
    }
}

fn without_comments(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("/*") {
        out.push_str(&rest[..at]);
        out.push(' ');
        let body = &rest[at + 2..];
        rest = body.find("*/").map_or("", |end| &body[end + 2..]);
    }
    out.push_str(rest);
    out.lines()
        .map(|l| l.split("//").next().unwrap_or_default())
        .fold(String::new(), |all, l| all + l + "\n")
}
