// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Files that somebody gives us: texts that are read whole and no further than a limit, and outputs that harm
//! no other file.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::usage::Usage;

/// Bytes of a profile, an overlay or a list of faults.
pub const MAX_FILE: u64 = 1 << 20;

/// The text of a file. `what` is who asked for it, and begins what is said of it.
///
/// # Errors
/// It cannot be read, is longer than [`MAX_FILE`], or is no UTF-8.
pub fn text(what: &str, file: &Path) -> anyhow::Result<String> {
    let name = file.display();
    let mut text = String::new();
    File::open(file)
        .and_then(|f| f.take(MAX_FILE + 1).read_to_string(&mut text))
        .with_context(|| format!("{what} {name}"))?;
    if text.len() as u64 > MAX_FILE {
        bail!("{what} {name}: longer than {MAX_FILE} bytes");
    }
    Ok(text)
}

/// Where a path leads, be something there or not; its folder must be there.
fn place(path: &Path) -> io::Result<PathBuf> {
    /// As many as the kernel follows.
    const LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let Ok(to) = fs::read_link(&path) else { break };
        path = path.with_file_name("").join(to);
    }
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty());
    Ok(fs::canonicalize(folder.unwrap_or(Path::new(".")))?.join(name))
}

/// True if both paths lead to one file, be it there or not. What is no regular file may be given twice.
fn same(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => a.is_file() && (a.dev(), a.ino()) == (b.dev(), b.ino()),
        (Err(_), Err(_)) => matches!((place(a), place(b)), (Ok(a), Ok(b)) if a == b),
        _ => false,
    }
}

/// Checks that each output, with the option that it was given by, is a file of its own.
///
/// # Errors
/// One is the same as another, or as an input.
pub fn apart(outputs: &[(&str, &Path)], inputs: &[(&str, &Path)]) -> anyhow::Result<()> {
    let mut others = [outputs, inputs].concat();
    for (option, file) in outputs {
        others.remove(0);
        if let Some((other, path)) = others.iter().find(|o| same(file, o.1)) {
            let (file, path) = (file.display(), path.display());
            bail!(Usage(format!(
                "{option} {file} is the same file as {other} {path}"
            )));
        }
    }
    Ok(())
}

/// A file that is written beside the place that it takes when it is whole. What lies there, and is no regular
/// file, is written to at once.
pub struct Output {
    file: BufWriter<File>,
    name: String,
    // What is written, and the place; until it is there.
    part: Option<(PathBuf, PathBuf)>,
}

impl Output {
    /// Begins one, which was given by an option.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin(option: &str, path: &Path) -> anyhow::Result<Self> {
        let name = format!("{option} {}", path.display());
        let (file, part) = Self::open(path).with_context(|| name.clone())?;
        let file = BufWriter::new(file);
        Ok(Self { file, name, part })
    }

    fn open(path: &Path) -> io::Result<(File, Option<(PathBuf, PathBuf)>)> {
        let there = fs::metadata(path);
        if there.as_ref().is_ok_and(|m| !m.is_file()) {
            return Ok((File::create(path)?, None));
        }
        let to = place(path)?;
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = to.with_file_name(name);
        let file = File::create_new(&part)?;
        let made = (part, to);
        if let Ok(m) = there
            && let Err(e) = file.set_permissions(m.permissions())
        {
            let _ = fs::remove_file(&made.0);
            return Err(e);
        }
        Ok((file, Some(made)))
    }

    /// Where to write.
    pub fn file(&mut self) -> &mut BufWriter<File> {
        &mut self.file
    }

    /// What it is, in errors: the option and the file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It is whole: puts it into its place.
    ///
    /// # Errors
    /// It cannot be written; the place has what it had.
    pub fn end(mut self) -> anyhow::Result<()> {
        let flushed = self.file.flush();
        let moved = flushed.and_then(|()| match &self.part {
            Some((part, to)) => fs::rename(part, to),
            None => Ok(()),
        });
        moved.with_context(|| self.name.clone())?;
        self.part = None;
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some((part, _)) = &self.part {
            let _ = fs::remove_file(part);
        }
    }
}
