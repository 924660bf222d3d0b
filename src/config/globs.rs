//! Patterns over the path of a file in its folder.

use std::path::Path;

use globset::{Glob, GlobBuilder, GlobSet};

/// Patterns as they were written, and compiled.
///
/// `*` and `?` do not cross a `/`, `**` does. As with rclone and .gitignore, a pattern without a
/// `/` matches at any depth, one with a `/` from the folder down (`/a.txt` is only the one on
/// top), and one that ends in `/` all that lies in directories of that name.
#[derive(Debug, Clone)]
pub struct Patterns {
    /// As written.
    pub written: Vec<String>,
    compiled: GlobSet,
}

impl Patterns {
    /// Whether one of them matches; `path` is relative to the folder.
    pub fn is_match(&self, path: &Path) -> bool {
        self.compiled.is_match(path)
    }

    pub(super) fn new(written: Vec<String>) -> Result<Self, globset::Error> {
        let mut set = GlobSet::builder();
        for pattern in &written {
            set.add(compile(pattern)?);
        }
        Ok(Self { compiled: set.build()?, written })
    }
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

pub(super) fn compile(pattern: &str) -> Result<Glob, globset::Error> {
    let (body, tail) = match pattern.strip_suffix('/') {
        Some(body) => (body, "/**"),
        None => (pattern, ""),
    };
    let anchored = match body.strip_prefix('/') {
        Some(body) => format!("{body}{tail}"),
        None if body.contains('/') || body == "**" => format!("{body}{tail}"),
        None => format!("**/{body}{tail}"),
    };
    GlobBuilder::new(&anchored).literal_separator(true).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_rclone_users_expect() {
        for (pattern, path, matches) in [
            ("**", "a/b.txt", true),
            ("*.tmp", "a.tmp", true),
            ("*.tmp", "deep/down/a.tmp", true),
            ("/*.tmp", "deep/a.tmp", false),
            ("a/*.tmp", "a/b.tmp", true),
            ("a/*.tmp", "a/b/c.tmp", false),
            ("a/*.tmp", "x/a/b.tmp", false),
            ("cache/", "x/cache/y/z", true),
            ("cache/", "cache", false),
            ("*.{csv,jsonl}", "x/a.jsonl", true),
        ] {
            let patterns = Patterns::new(vec![pattern.into()]).unwrap();
            assert_eq!(patterns.is_match(Path::new(path)), matches, "{pattern} on {path}");
        }
    }
}
