//! What people do in the folder, and what lay there when.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use sha2::{Digest, Sha256};

use crate::dice::Dice;

/// Files that were dropped so lately that something may still happen to them.
const LATELY: usize = 60;

/// The folder, and all that ever lay in it.
pub struct Folder {
    root: PathBuf,
    outside: PathBuf,
    dice: Dice,
    number: u64,
    /// Every version of every path, by SHA-256, in the order in which they lay there.
    pub versions: BTreeMap<PathBuf, Vec<String>>,
    /// Paths at which something lies, in the order in which it came.
    pub there: Vec<PathBuf>,
    pub done: BTreeMap<&'static str, u64>,
}

impl Folder {
    pub fn new(root: PathBuf, outside: PathBuf, seed: u64) -> Folder {
        Folder {
            root,
            outside,
            dice: Dice::new(seed),
            number: 0,
            versions: BTreeMap::new(),
            there: Vec::new(),
            done: BTreeMap::new(),
        }
    }

    /// One thing that happens: mostly a new file.
    pub fn happens(&mut self) -> Result<()> {
        let kind = self.dice.within(0, 99);
        let what = match (kind, self.some_path()) {
            (0..=6, Some(path)) => self.replace(&path)?,
            (7..=11, Some(path)) => self.rewrite(&path)?,
            (12..=16, Some(path)) => self.touch(&path)?,
            (17..=21, Some(path)) => self.delete(&path)?,
            (22..=26, Some(path)) => self.rename(&path)?,
            _ => self.drop_new()?,
        };
        *self.done.entry(what).or_default() += 1;
        Ok(())
    }

    fn some_path(&mut self) -> Option<PathBuf> {
        let lately = &self.there[self.there.len().saturating_sub(LATELY)..];
        if lately.is_empty() { None } else { Some(self.dice.of(lately)) }
    }

    fn drop_new(&mut self) -> Result<&'static str> {
        let path = self.name();
        let content = self.content();
        self.put(&path, &content)?;
        self.there.push(path);
        Ok("dropped")
    }

    fn replace(&mut self, path: &Path) -> Result<&'static str> {
        let content = self.content();
        self.put(path, &content)?;
        Ok("replaced")
    }

    /// In place, as an editor without care does it.
    fn rewrite(&mut self, path: &Path) -> Result<&'static str> {
        let content = self.content();
        self.remember(path, &content);
        fs::write(self.root.join(path), &content)?;
        Ok("rewritten")
    }

    fn touch(&mut self, path: &Path) -> Result<&'static str> {
        let file = fs::File::options().append(true).open(self.root.join(path))?;
        let modified = file.metadata()?.modified()?;
        file.set_modified(modified + std::time::Duration::from_secs(1))?;
        Ok("touched")
    }

    fn delete(&mut self, path: &Path) -> Result<&'static str> {
        fs::remove_file(self.root.join(path))?;
        self.there.retain(|one| one != path);
        Ok("deleted")
    }

    fn rename(&mut self, path: &Path) -> Result<&'static str> {
        let target = self.name();
        let version = self.versions.get(path).and_then(|versions| versions.last().cloned());
        self.versions.entry(target.clone()).or_default().extend(version);
        fs::create_dir_all(self.root.join(&target).parent().unwrap_or(&self.root))?;
        fs::rename(self.root.join(path), self.root.join(&target))?;
        self.there.retain(|one| one != path);
        self.there.push(target);
        Ok("renamed")
    }

    /// Whole from the first moment, by a rename from outside.
    fn put(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.remember(path, content);
        let staged = self.outside.join("staged");
        fs::write(&staged, content)?;
        let target = self.root.join(path);
        fs::create_dir_all(target.parent().unwrap_or(&self.root))?;
        fs::rename(staged, target)
    }

    fn remember(&mut self, path: &Path, content: &[u8]) {
        self.versions.entry(path.to_owned()).or_default().push(digest(content));
    }

    fn name(&mut self) -> PathBuf {
        self.number += 1;
        let number = self.number;
        let odd = self.dice.of(&[
            "plain",
            "with space",
            "ümlaut-日本",
            "100%25",
            "line\nbreak",
            "-dash",
            "quote'\"",
        ]);
        let name = if self.dice.percent(70) {
            format!("{number:06}.bin")
        } else {
            format!("{odd} {number:06}.jsonl")
        };
        if self.dice.percent(20) { Path::new("sub").join(name) } else { name.into() }
    }

    /// No two are equal.
    fn content(&mut self) -> Vec<u8> {
        let bytes = match self.dice.within(0, 99) {
            0..=4 => self.dice.within(8, 16),
            5..=69 => self.dice.within(17, 64 * 1024),
            70..=89 => self.dice.within(64 * 1024, 1024 * 1024),
            _ => self.dice.within(1024 * 1024, 4 * 1024 * 1024),
        };
        let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0) + 8);
        while (content.len() as u64) < bytes {
            content.extend_from_slice(&self.dice.next().to_le_bytes());
        }
        content.truncate(usize::try_from(bytes).unwrap_or(0));
        content
    }
}

pub fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}
