//! Commands of the documents, run as printed.

use std::path::Path;

use crate::mesh::Mesh;
use firstword_testing::program::firstword;
use firstword_testing::root;

/// The commands in the comments of a file in `istio/`.
pub fn of_manifest(path: &str) -> Vec<String> {
    let path = root().join("istio").join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let commands = text.lines().filter_map(|line| line.strip_prefix("#   "));
    let commands = commands.filter(|line| line.starts_with("kubectl "));
    let commands: Vec<_> =
        commands.map(|line| line.split("  #").next().unwrap_or(line).trim().to_owned()).collect();
    assert!(!commands.is_empty(), "{} has no command", path.display());
    commands
}

/// The only command of a page in `docs/` that begins so. It is on a line of its own.
pub fn of_page(page: &str, start: &str) -> String {
    let path = root().join("docs").join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let found: Vec<_> = text.lines().map(str::trim).filter(|line| line.starts_with(start)).collect();
    let [command] = found.as_slice() else { panic!("{page} has {} commands {start}", found.len()) };
    (*command).to_owned()
}

/// Runs a command in a directory, as a user's shell does. It must succeed. Returns its output.
pub fn run(mesh: &Mesh<'_>, directory: &Path, command: &str) -> String {
    let world = &mesh.lab.world;
    let mut shell = mesh.lab.names.command(&world.namespace);
    mesh.lab.kubectl.configure(&mut shell);
    let programs = [root().join("target/tools/cluster"), root().join("target/tools")];
    let programs = programs.iter().map(|path| path.as_path()).chain(firstword().parent());
    let path: Vec<_> = programs.map(|path| path.display().to_string()).collect();
    shell.args(["sh", "-euc", command]).current_dir(directory);
    shell.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", path.join(":")));
    // Helm trusts the authority of the registry's certificate.
    shell.env("SSL_CERT_FILE", world.folder("credentials").join("ca.pem")).env("NO_PROXY", "*");
    let output = shell.output().expect("a shell");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command}: {text}");
    text
}
