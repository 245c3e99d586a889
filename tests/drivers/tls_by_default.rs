//! The table of `docs/tls.md`: whether a driver chooses TLS without any option for it, if the server offers TLS and does not
//! require it. `FIRSTWORD_BLESS=1` writes the table. Otherwise, its rows must equal the run.

use std::fs;

use super::*;

const PATH: &str = "docs/tls.md";
const BEGIN: &str = "<!-- drivers: begin -->\n";
const END: &str = "<!-- drivers: end -->\n";
const HEADER: [&str; 2] = [
    "| driver | version | with MySQL | with MariaDB | visible with `tls.upstream` | visible with the bridge |",
    "|---|---|---|---|---|---|",
];

/// Runs a driver through the filter without any option of TLS. Returns its choice as the filter counts it, and problems.
pub(crate) fn observe(driver: &Driver, server: &Server, direct: &str) -> (&'static str, Vec<String>) {
    let database = server.database;
    let envoy = start_envoy(database);
    prepare(driver, database);
    let before = database.status("Ssl_accepts");
    let through = run(driver, database, envoy.listener_addr("mysql"), "default");
    let metrics = envoy.stable(QUIET);
    let accepted = database.status("Ssl_accepts") - before;
    let connections = sum(&metrics, "firstword_connections_total", &[]);
    let tls = sum(&metrics, "firstword_opaque_total", &[("reason", "tls")]);
    let mut problems = Vec::new();
    if accepted != tls {
        problems.push(format!(
            "TLS by default: the server accepted {accepted} connections, the filter counted {tls}"
        ));
    }
    // Each driver has its own message, but all contain this word.
    let refuses = through != direct && through.to_lowercase().contains("certificate");
    if through != direct && !refuses {
        problems.push("TLS by default:".into());
        problems.extend(text_differences(direct, &through));
    }
    let choice = match tls {
        0 => "no",
        _ if tls < connections => "for some connections",
        _ if refuses => "yes, and refuses a self-signed certificate",
        _ => "yes",
    };
    (choice, problems)
}

/// The document before the lines of the table, these lines, and the document after them.
fn split(text: &str) -> (&str, Vec<&str>, &str) {
    let (before, rest) = text.split_once(BEGIN).expect("the marker before the table");
    let (table, after) = rest.split_once(END).expect("the marker after the table");
    (before, table.lines().collect(), after)
}

fn document() -> String {
    fs::read_to_string(root().join(PATH)).expect(PATH)
}

/// Compares the rows of the selected drivers with the table, or writes them. Returns the rows that differ.
pub(crate) fn compare_rows(outcomes: &[Outcome]) -> Vec<String> {
    let text = document();
    let (before, written, after) = split(&text);
    let mut rows: Vec<_> = written.iter().skip(HEADER.len()).map(|row| (*row).to_owned()).collect();
    rows.resize(DRIVERS.len(), String::new());
    let mut differing = Vec::new();
    for (driver, row) in DRIVERS.iter().zip(&mut rows) {
        let of_driver: Vec<_> = outcomes.iter().filter(|outcome| outcome.driver == driver.name).collect();
        let [mariadb, mysql] = of_driver.as_slice() else { continue };
        let version = mysql.version.rsplit(' ').next().unwrap_or_default();
        let visible = [mysql.originated && mariadb.originated, mysql.bridged && mariadb.bridged];
        let visible = visible.map(|visible| if visible { "yes" } else { "no" }).join(" | ");
        let (title, defaults) =
            (driver.title, [mysql, mariadb].map(|outcome| outcome.by_default).join(" | "));
        let measured = format!("| {title} | {version} | {defaults} | {visible} |");
        if *row != measured {
            differing.extend([format!("- {row}"), format!("+ {measured}")]);
            *row = measured;
        }
    }
    if std::env::var_os("FIRSTWORD_BLESS").is_none() {
        return differing;
    }
    let table = [HEADER.join("\n"), rows.join("\n")].join("\n");
    fs::write(root().join(PATH), format!("{before}{BEGIN}{table}\n{END}{after}")).expect(PATH);
    Vec::new()
}

#[test]
fn the_table_of_the_document_has_one_row_for_each_driver() {
    let text = document();
    let (_, table, _) = split(&text);
    let (header, rows) = table.split_at(HEADER.len());
    assert_eq!(header, HEADER);
    let named: Vec<_> = rows.iter().map(|row| row.split('|').nth(1).unwrap_or_default().trim()).collect();
    assert_eq!(
        named,
        DRIVERS.map(|driver| driver.title),
        "make test-drivers FIRSTWORD_BLESS=1 writes the table"
    );
}
