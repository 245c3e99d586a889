//! `firstword doctor` on dumps of real sidecars says what it says on the dumps of the stand-in. `make test-cluster` with
//! `FIRSTWORD_BLESS=1` writes the dumps.

use std::process::Command;

use serde_json::Value;

use crate::cases::CASES;
use crate::doctor::dump;
use crate::pilot::xds;
use firstword_testing::doctor::doctor;
use firstword_testing::program::firstword;
use firstword_testing::root;

const PROXY: [u8; 4] = [10, 1, 0, 2];

#[test]
fn doctor_gives_the_same_verdict_on_a_real_dump() {
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("tests/cluster/dumps")).expect("the dumps") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").replace('-', " ");
        let case = CASES.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case {name}"));
        let proxy = case.proxy(PROXY.into());
        let to = case.destinations(PROXY.into())[0];
        let real = std::fs::read(&path).expect("a dump");
        let real = doctor(Command::new(firstword()), "-", to, &real);
        case.assert_verdicts(&real);

        let xds = xds(&case.mesh(&proxy, "/etc/certs"), &proxy, &case.all_resources());
        let ours = dump(&xds, &proxy, &case.annotations()).to_string();
        let ours = doctor(Command::new(firstword()), "-", to, ours.as_bytes());
        // Only a real agent has put the module into a file.
        let mut codes = real.codes();
        codes.retain(|code| code != "info module-image");
        assert_eq!(codes, ours.codes(), "{name}: {:#}", real.0);
        let clients = |report: &Value| report["destinations"][0]["clients"].clone();
        let waits = |report: &Value| clients(report)[0]["waits"].clone();
        assert_eq!(waits(&real.0), waits(&ours.0), "{name}");
        count += 1;
    }
    assert!(count > 0, "no dumps");
}
