//! Six drivers at once, again and again: the counts still agree to the unit.

use std::thread;

use super::*;

/// They log in without TLS whatever caching_sha2_password asks for.
const TOGETHER: [&str; 6] =
    ["connector-j-8.0.33", "go-sql-driver", "mariadb-cli", "mysql2", "mysql_async", "php-mysqli"];
const COMMANDS: u64 = 10_000;

/// What went wrong with one server. The drivers must be set up.
pub(crate) fn together(server: &Server) -> Vec<String> {
    let database = server.database;
    let drivers: Vec<_> = DRIVERS.iter().filter(|driver| TOGETHER.contains(&driver.name)).collect();
    let schemas: Vec<_> = drivers.iter().map(|driver| format!("`together_{}`", driver.name)).collect();
    for schema in &schemas {
        each(database, &[&format!("CREATE DATABASE {schema}"), &format!("USE {schema}")]);
        each(database, &GIVEN);
    }
    let envoy = between(database);
    let address = envoy.listener_addr("mysql");
    let before = forget(database);
    let mut problems = Vec::new();
    let mut rounds = 0;
    while commands(&counted_by_filter(&envoy.stable(QUIET))) < COMMANDS {
        for schema in &schemas {
            each(database, &[&format!("USE {schema}")]);
            each(database, &FILLED);
        }
        let printed: Vec<String> = thread::scope(|scope| {
            let running: Vec<_> = drivers
                .iter()
                .zip(&schemas)
                .map(|(driver, schema)| {
                    scope.spawn(|| launch(driver, schema.trim_matches('`'), address, "plain"))
                })
                .collect();
            running.into_iter().map(|driver| driver.join().expect("a driver")).collect()
        });
        for (driver, printed) in drivers.iter().zip(printed) {
            let unexpected = unexpected(driver, server, &printed).into_iter();
            problems.extend(unexpected.map(|line| format!("round {rounds}, {}: {line}", driver.name)));
        }
        rounds += 1;
        if !problems.is_empty() {
            break;
        }
    }
    each(database, &[&format!("USE {DATABASE}")]);
    wait_until_alone(database);
    let metrics = envoy.stable(QUIET);
    let (counted, filter) = (counted_by_server(server, &before), counted_by_filter(&metrics));
    problems.extend(differences(&counted, &filter));
    let opaque = sum(&metrics, "firstword_opaque_total", &[]);
    if opaque > 0 {
        problems.push(format!("{opaque} connections became opaque\n{}", envoy.log()));
    }
    println!("{}: {} commands of six drivers at once in {rounds} rounds", server.name, commands(&filter));
    problems
}
