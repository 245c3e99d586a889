//! Random sequences of packets with requests for a file, sent to each driver. Without the filter, the server receives the
//! file. With it, it never does.
//!
//! `FIRSTWORD_SEED` repeats a run, `SEARCH_SECONDS` sets how long each driver runs behind the filter.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::files::{DRIVERS, WITHOUT, set_up_drivers};
use crate::hostile::{Hostile, Stolen};
use crate::{QUIET, count};
use firstword_testing::database::{DATABASE, PASSWORD, USER};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::{root, temp_dir, wait_for};

const MARKER: &[u8] = b"the secret of the client 5ab1";
/// Maximum time of a process in seconds. One that takes longer hangs, and `timeout` kills it.
const MAX_SECONDS: &str = "300";
const PATIENCE: Duration = Duration::from_secs(20);
/// Number of connections of a process.
const TIMES: u64 = 40;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Runs the program of a driver that connects several times.
fn connect_repeatedly(driver: &str, address: SocketAddr, file: &Path) {
    let output = Command::new("timeout")
        .arg(MAX_SECONDS)
        .arg(root().join("target/drivers/bin").join(format!("again-{driver}")))
        .args([&address.ip().to_string(), &address.port().to_string(), USER, PASSWORD, DATABASE])
        .arg(file)
        .arg(TIMES.to_string())
        .output()
        .expect("timeout");
    if !output.status.success() {
        // Only print it, because a crash of the driver is not our concern.
        let errors = String::from_utf8_lossy(&output.stderr);
        println!("{driver}: {}: {}", output.status, errors.lines().last().unwrap_or_default());
    }
}

/// Runs a driver. Returns the number of its connections, and those on which the file arrived.
fn run(hostile: &Hostile, driver: &str, address: SocketAddr, file: &Path, seed: u64) -> (u64, Vec<Stolen>) {
    hostile.set_seed(seed);
    connect_repeatedly(driver, address, file);
    let results = wait_for("the end of all connections", PATIENCE, || hostile.results());
    (results.connections, results.stolen)
}

mod needs_drivers {
    use super::*;

    #[test]
    #[ignore = "needs the drivers: make test-hazards"]
    fn no_sequence_of_packets_obtains_a_drivers_file_through_the_filter() {
        set_up_drivers();
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
        let seed = number("FIRSTWORD_SEED").unwrap_or_else(clock);
        let seconds = number("SEARCH_SECONDS").unwrap_or(0);
        println!("sequences: FIRSTWORD_SEED={seed} SEARCH_SECONDS={seconds}");
        let files = temp_dir();
        let file = files.path().join("secret.tsv");
        std::fs::write(&file, MARKER).expect("a file");
        let hostile = Hostile::start(file.to_str().expect("a path"), MARKER);
        let wanted = std::env::var("DRIVER").unwrap_or_default();
        let drivers = DRIVERS.into_iter().filter(|driver| *driver != WITHOUT && driver.starts_with(&wanted));

        let mut stolen = Vec::new();
        let (mut run_drivers, mut affected) = (0, 0);
        for driver in drivers {
            let (connections, directly) = run(&hostile, driver, hostile.address(), &file, seed);
            assert!(connections > 0, "{driver} does not connect");
            run_drivers += 1;
            affected += usize::from(!directly.is_empty());
            let options = EnvoyOptions::new(root().join("envoy/hazards.yaml")).labels();
            let envoy = Envoy::start(options.upstream("mysql", hostile.address()));
            let deadline = Instant::now() + Duration::from_secs(seconds);
            let (mut sequences, mut at) = (0, seed);
            loop {
                let (connections, through) = run(&hostile, driver, envoy.listener_addr("mysql"), &file, at);
                assert!(connections > 0, "{driver} does not connect through the filter");
                sequences += connections;
                stolen.extend(through.into_iter().map(|stolen| (driver, stolen)));
                if Instant::now() >= deadline {
                    break;
                }
                at = at.wrapping_add(connections);
            }
            let metrics = envoy.stable(QUIET);
            let [blocked, lost] =
                ["local_infile_blocked_total", "protection_lost_total"].map(|name| count(&metrics, name));
            println!(
                "{driver}: {} of {connections} directly; through the filter {sequences} sequences, {blocked} requests blocked, {lost} connections lost their protection",
                directly.len()
            );
        }
        for (driver, Stolen { seed, log }) in &stolen {
            println!("the file of {driver} arrived, FIRSTWORD_SEED={seed}:");
            for line in log {
                println!("    {line}");
            }
        }
        assert!(stolen.is_empty(), "the file arrived on {} connections", stolen.len());
        // Not all drivers, because some compare the name with the statement or with a list.
        let is_all = wanted.is_empty();
        assert!(
            !is_all || affected * 2 >= run_drivers,
            "without the filter {affected} of {run_drivers} send the file"
        );
    }
}
