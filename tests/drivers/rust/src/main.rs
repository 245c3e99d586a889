//! Scenario with mysql_async or sqlx, by the first argument. `again` runs mysql_async against a hostile server.

mod again;
mod mysql_async_;
mod sqlx_;

use std::fmt::Display;

pub const STATEMENT: &str = "SELECT id, name, price FROM items WHERE id >= ? AND price < ? ORDER BY id";
pub const FIELD: &str = "SELECT REPEAT('0123456789abcdef', 1048577)";
pub const BATCH: &str = "SELECT COUNT(*), SUM(id), COUNT(name) FROM batch";
pub const LAST: &str = "INSERT INTO batch VALUES (101, 'last')";

pub struct Arguments {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
    pub file: String,
    /// `plain`, `tls`, `default`: without any option of TLS, or the file of an authority, by which the driver verifies the server.
    pub transport: String,
}

pub type Error = Box<dyn std::error::Error>;

pub fn say(step: &str, value: impl Display) {
    println!("{step} {value}");
}

/// Joins rows of formatted values.
pub fn rows(rows: &[Vec<String>]) -> String {
    let rows: Vec<_> = rows.iter().map(|row| row.join(" ")).collect();
    if rows.is_empty() { "-".into() } else { rows.join(" / ") }
}

/// Rows for `batch`.
pub fn names() -> impl Iterator<Item = (u32, Option<String>)> {
    (1..=100).map(|id| (id, (id % 2 == 1).then(|| format!("name {id}"))))
}

pub fn digest(field: &str) -> String {
    format!("{} {:x}", field.len(), md5::compute(field))
}

/// Version of a package in Cargo.lock.
pub fn version(package: &str) -> &str {
    let lock = include_str!("../Cargo.lock");
    let (_, entry) =
        lock.split_once(&format!("name = \"{package}\"\nversion = \"")).expect("a pinned package");
    entry.split_once('"').expect("a version").0
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [driver, host, port, user, password, database, file, transport] = words.as_slice() else {
        return Err("usage: mysql_async|sqlx HOST PORT USER PASSWORD DATABASE FILE plain|tls|default|AUTHORITY".into());
    };
    let arguments = Arguments {
        host: host.clone(),
        port: port.parse()?,
        user: user.clone(),
        password: password.clone(),
        database: database.clone(),
        file: file.clone(),
        transport: transport.clone(),
    };
    if driver == "again" {
        std::panic::set_hook(Box::new(|_| {}));
        return again::run(&arguments, transport.parse()?).await;
    }
    say("driver", format!("{driver} {}", version(driver)));
    match driver.as_str() {
        "mysql_async" => mysql_async_::run(&arguments).await,
        _ => sqlx_::run(&arguments).await,
    }
}
