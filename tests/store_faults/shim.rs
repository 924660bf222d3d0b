//! A library before libc that makes calls on the store's files fail while a file says so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::Bench;

/// Faults that can be switched on and off while the service runs.
pub struct Shim {
    flag: PathBuf,
}

impl Shim {
    /// Puts the shim before everything that the bench starts from now on.
    pub fn under(bench: &mut Bench) -> Shim {
        let flag = bench.path("fault");
        bench.env.insert("LD_PRELOAD".into(), library().to_str().unwrap().into());
        bench.env.insert("SHIM_FAULT".into(), flag.to_str().unwrap().into());
        Shim { flag }
    }

    /// From now on these calls fail: `write ENOSPC`, one a line.
    pub fn fail(&self, calls: &str) {
        let staged = self.flag.with_extension("new");
        std::fs::write(&staged, calls).unwrap();
        std::fs::rename(staged, &self.flag).unwrap();
    }

    /// From now on nothing fails.
    pub fn mend(&self) {
        std::fs::remove_file(&self.flag).unwrap();
    }
}

/// Compiles it once for all tests of this process.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let target =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("shim-{}.so", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/store_faults/shim.c");
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&target)
            .args([source, "-ldl"])
            .output()
            .expect("a C compiler, which building needs as well");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        target
    })
}
