//! Six drivers at the same time, in several rounds. The filter's counts equal the server's.

use super::*;

/// Drivers that log in without TLS, also if caching_sha2_password needs the full authentication.
const CONCURRENT: [&str; 6] =
    ["connector-j-8.0.33", "go-sql-driver", "mariadb-cli", "mysql2", "mysql_async", "php-mysqli"];
const COMMANDS: u64 = 10_000;

/// Runs the drivers with one server. Returns the problems. The drivers must be set up.
pub(crate) fn run_concurrently(server: &Server) -> Vec<String> {
    let database = server.database;
    let drivers: Vec<_> = DRIVERS.iter().filter(|driver| CONCURRENT.contains(&driver.name)).collect();
    let schemas: Vec<_> = drivers.iter().map(|driver| format!("`concurrent_{}`", driver.name)).collect();
    for schema in &schemas {
        each(database, &[&format!("CREATE DATABASE {schema}"), &format!("USE {schema}")]);
        each(database, &GIVEN);
    }
    let envoy = start_envoy(database);
    let address = envoy.listener_addr("mysql");
    let before = reset_counts(database);
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
    let (server_counts, filter) = (counted_by_server(server, &before), counted_by_filter(&metrics));
    problems.extend(differences(&server_counts, &filter));
    let opaque = sum(&metrics, "firstword_opaque_total", &[]);
    if opaque > 0 {
        problems.push(format!("{opaque} connections became opaque\n{}", envoy.log()));
    }
    println!("{}: {} commands of six concurrent drivers in {rounds} rounds", server.name, commands(&filter));
    problems
}
