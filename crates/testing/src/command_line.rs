//! The command-line clients of MySQL and MariaDB.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::database::DATABASE;

/// Logs in with a client, and reads a status variable of the session. `Err` holds the client's message.
pub fn session_status(
    program: &Path,
    address: SocketAddr,
    (user, password): (&str, &str),
    options: &[&str],
    variable: &str,
) -> Result<String, String> {
    let output = Command::new(program)
        .args(["--no-defaults", "--batch", "--skip-column-names", "--user", user])
        .args([format!("--host={}", address.ip()), format!("--port={}", address.port())])
        .args(options)
        .args([format!("--execute=SHOW SESSION STATUS LIKE '{variable}'").as_str(), DATABASE])
        .env("MYSQL_PWD", password)
        .output()
        .expect("a client");
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        return Err(text(&output.stderr));
    }
    Ok(text(&output.stdout).split_once('\t').map(|(_, value)| value.to_owned()).unwrap_or_default())
}
