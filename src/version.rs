//! Version and commit of this build.

/// Version of this filter.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Commit of this build. `unknown` if the build does not state it.
pub const COMMIT: &str = match option_env!("FIRSTWORD_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
