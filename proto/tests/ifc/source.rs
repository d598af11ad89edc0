// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Finds the kernel's headers that the facts were imported from.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

const IFC: &str = "include/linux/mlx5/mlx5_ifc.h";
/// Folders below the cache folder that are looked into.
const DEPTH: u32 = 6;

/// `facts/sources.toml`.
#[derive(serde::Deserialize)]
struct Imported {
    kernel: String,
    #[serde(flatten)]
    files: BTreeMap<String, File>,
}

#[derive(serde::Deserialize)]
struct File {
    layouts: Vec<String>,
}

/// `by_hand` in `facts/overlay.toml`: what the headers do not say.
#[derive(serde::Deserialize)]
pub struct ByHand {
    families: Vec<String>,
    fields: BTreeMap<String, Vec<Vec<toml::Value>>>,
}

impl ByHand {
    /// Reads it.
    pub fn read() -> Self {
        #[derive(serde::Deserialize)]
        struct Overlay {
            by_hand: ByHand,
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/facts/overlay.toml");
        let text = fs::read_to_string(path).expect(path);
        toml::from_str::<Overlay>(&text).expect(path).by_hand
    }

    /// Names of the layouts that are written by hand as a whole.
    pub fn layouts(&self) -> Vec<String> {
        let read = |family: &String| {
            let path = format!("{}/facts/{family}.toml", env!("CARGO_MANIFEST_DIR"));
            let text = fs::read_to_string(&path).expect(&path);
            toml::from_str::<toml::Table>(&text).expect(&path)
        };
        self.families
            .iter()
            .flat_map(|f| read(f).into_iter().map(|(name, _)| name))
            .collect()
    }

    /// True if the field was added to a layout of the headers.
    pub fn adds(&self, layout: &str, field: &str) -> bool {
        let fields = self.fields.get(layout).into_iter().flatten();
        fields
            .filter_map(|f| f.first()?.as_str())
            .any(|name| name == field)
    }
}

/// The text of a kernel's headers.
pub struct Source {
    /// Its folder.
    pub root: PathBuf,
    /// All files that layouts come from, one behind the other.
    pub text: String,
    /// Files that the folder does not have.
    pub missing: Vec<String>,
    /// Layouts that are in those.
    pub not_there: Vec<String>,
}

impl Source {
    /// The source, or why there is none. A folder that was asked for must be whole.
    pub fn find() -> Result<Self, String> {
        let facts = concat!(env!("CARGO_MANIFEST_DIR"), "/facts/sources.toml");
        let imported: Imported =
            toml::from_str(&fs::read_to_string(facts).expect(facts)).expect(facts);
        if let Some(root) = env::var_os("FWCTL_LINUX_SOURCE") {
            let source = Self::read(Path::new(&root), &imported);
            let source = source.unwrap_or_else(|why| panic!("FWCTL_LINUX_SOURCE: {why}"));
            assert_eq!(source.missing, [""; 0], "FWCTL_LINUX_SOURCE is not whole");
            return Ok(source);
        }
        let cache = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))
            .ok_or("there is no cache folder")?
            .join("fwctl-emu");
        let version = &imported.kernel;
        let root = look(&cache, version, DEPTH).ok_or_else(|| {
            format!(
                "no headers of Linux {version} in {}; set FWCTL_LINUX_SOURCE",
                cache.display()
            )
        })?;
        Self::read(&root, &imported)
    }

    fn read(root: &Path, imported: &Imported) -> Result<Self, String> {
        let read = |path: &str| {
            let path = root.join(path);
            fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
        };
        let mut source = Self {
            root: root.to_owned(),
            text: read(IFC)?,
            missing: Vec::new(),
            not_there: Vec::new(),
        };
        for (path, file) in &imported.files {
            if let Ok(text) = read(path) {
                source.text += "\n";
                source.text += &text;
            } else {
                source.missing.push(path.clone());
                source.not_there.extend(file.layouts.iter().cloned());
            }
        }
        Ok(source)
    }
}

/// A folder `linux-source-7.3` or `linux-headers-7.3.4-...` with the header in it.
fn look(dir: &Path, version: &str, depth: u32) -> Option<PathBuf> {
    let mut dirs: Vec<_> = fs::read_dir(dir)
        .ok()?
        .filter_map(Result::ok)
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect();
    dirs.sort();
    dirs.into_iter().find_map(|d| {
        let name = d.file_name()?.to_string_lossy().into_owned();
        let release = ["linux-source-", "linux-headers-"]
            .iter()
            .find_map(|p| name.strip_prefix(p));
        let same = release
            .and_then(|r| r.strip_prefix(version))
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
        if same && d.join(IFC).exists() {
            return Some(d);
        }
        look(&d, version, depth.checked_sub(1)?)
    })
}
