// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Text files that somebody gives us: read whole, and no further than a limit.

use std::{fs::File, io::Read as _, path::Path};

use anyhow::{Context as _, bail};

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
