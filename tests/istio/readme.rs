//! The commands of `README.md` run as printed, in a clean checkout.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::cases::CASES;
use crate::doctor::dump;
use crate::pilot::xds;
use firstword_testing::{root, temp_dir};

const README: &str = include_str!("../../README.md");

/// What the test does with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treatment {
    /// Runs it, and expects this exit status.
    Run(i32),
    /// Asks make whether the target exists, because it starts servers and takes minutes.
    Target,
}

/// Every command that README may print. None of them changes a cluster.
const SAFE: [(&str, Treatment); 5] = [
    ("make cli", Treatment::Run(0)),
    // An error was found.
    (
        "istioctl proxy-config all deploy/app -o json | target/firstword doctor - --dest 55.108.108.2:10000",
        Treatment::Run(1),
    ),
    ("target/firstword doctor envoy/mysql.yaml", Treatment::Run(0)),
    ("make demo", Treatment::Target),
    ("make test", Treatment::Target),
];

/// The commands in the blocks of README, without their comments, and then the commands within its sentences.
fn commands() -> Vec<&'static str> {
    let blocks = README.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).filter_map(|line| line.split(" # ").next());
    let prose = README.split("```").step_by(2).flat_map(|text| text.split('`').skip(1).step_by(2));
    let in_prose = prose.filter(|text| text.starts_with("target/"));
    lines.chain(in_prose).map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// Copies the repository without what was built. Keeps the build of the last checkout, so that packages are compiled once.
fn checkout() -> PathBuf {
    let checkout = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme");
    let target = checkout.join("target");
    fs::create_dir_all(&target).expect("a directory");
    let is_kept = |name: &str| name == "cli" || name.starts_with("rustup-refused");
    for directory in [&checkout, &target] {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            if path == target || *directory == target && is_kept(name) {
                continue;
            }
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
    let mut copy = Command::new("cp");
    copy.arg("-a");
    for entry in fs::read_dir(root()).expect("the repository") {
        let entry = entry.expect("an entry");
        if entry.file_name() != "target" && entry.file_name() != ".git" {
            copy.arg(entry.path());
        }
    }
    assert!(copy.arg(&checkout).status().expect("cp").success());
    checkout
}

/// A directory with a program that stands in for `istioctl`. It prints the configuration of the pod that hangs, in case A1.
pub fn istioctl() -> tempfile::TempDir {
    let case = CASES.iter().find(|case| case.name == "A1").expect("a case");
    let proxy = case.proxy([10, 1, 0, 2].into());
    let xds = xds(&case.mesh(&proxy, "/etc/certs"), &proxy, &case.all_resources());
    let directory = temp_dir();
    fs::write(directory.path().join("dump.json"), dump(&xds, &proxy, &case.annotations()).to_string())
        .expect("the dump");
    let script =
        "#!/bin/sh\n[ \"$*\" = 'proxy-config all deploy/app -o json' ] && exec cat \"${0%/*}/dump.json\"\n";
    let program = directory.path().join("istioctl");
    fs::write(&program, script).expect("istioctl");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("istioctl");
    directory
}

/// Runs a command line as a user's shell does.
fn run(command: &str, checkout: &Path, programs: &Path) -> Output {
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("PATH"));
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(checkout).env("PATH", path);
    // Options of the make that runs this test.
    for variable in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"] {
        shell.env_remove(variable);
    }
    shell.output().expect("sh")
}

#[test]
fn its_commands_run_as_printed() {
    let commands = commands();
    for (command, _) in SAFE {
        assert!(commands.contains(&command), "README no longer has: {command}");
    }
    let (checkout, programs) = (checkout(), istioctl());
    for command in commands {
        let safe = SAFE.iter().find(|(safe, _)| *safe == command);
        let (_, treatment) = safe.unwrap_or_else(|| panic!("not on the list of safe commands: {command}"));
        let (to_run, expected) = match treatment {
            Treatment::Run(status) => (command.to_owned(), *status),
            Treatment::Target => (format!("{command} --dry-run"), 0),
        };
        let output = run(&to_run, &checkout, programs.path());
        let text = String::from_utf8_lossy(&output.stdout);
        let problems = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(expected), "{command}: {text}{problems}");
        if command.starts_with("istioctl") {
            assert_eq!((text.as_ref(), problems.as_ref()), (include_str!("doctor/A1.txt"), ""));
        }
        println!("{command}: {treatment:?}");
    }
}

#[test]
fn make_lists_the_targets_that_it_names() {
    let help = Command::new("make").arg("help").current_dir(root()).env_remove("MAKEFLAGS").output();
    let help = String::from_utf8(help.expect("make").stdout).expect("text");
    for (target, _) in SAFE.iter().filter_map(|(command, of)| Some((command.strip_prefix("make ")?, of))) {
        assert!(help.lines().any(|line| line.split(' ').next() == Some(target)), "{target}: {help}");
    }
}
