//! The command `firstword`, for tests and tools of other packages.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::SystemTime;

/// The program in the directory of this executable's profile. Cargo builds it first if it is missing or older than its sources.
///
/// A test can call Cargo, because Cargo holds no lock while tests run.
pub fn firstword() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let own = std::env::current_exe().expect("this executable");
        // target/PROFILE/deps/TEST, target/PROFILE/TOOL
        let directory = own.parent().expect("a directory");
        let directory = if directory.ends_with("deps") { directory.parent() } else { Some(directory) };
        let directory = directory.expect("the directory of the profile");
        let program = directory.join("firstword");
        if !is_current(&program) {
            build(directory);
        }
        assert!(program.exists(), "{} is missing", program.display());
        program
    });
    &PROGRAM
}

/// True if no source is newer. Cargo lists the sources in a rule for make next to the program.
fn is_current(program: &Path) -> bool {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    let Some(built) = changed(program) else { return false };
    let rule = std::fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let Some((_, sources)) = rule.split_once(": ") else { return false };
    let is_older = |source: &str| changed(Path::new(source)).is_some_and(|time: SystemTime| time <= built);
    sources.split_whitespace().all(is_older)
}

fn build(directory: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(super::root()).args(["build", "--quiet", "--locked", "--package", "firstword-cli"]);
    cargo.arg("--target-dir").arg(directory.parent().expect("the directory of all profiles"));
    if directory.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().expect("cargo").success(), "cargo build --package firstword-cli");
}
