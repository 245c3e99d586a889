//! What a run found: claims of the documents, and what the cluster did. `docs/cluster.md` has the table.

use std::fmt::Write as _;

use firstword_testing::root;

const DOCUMENT: &str = "docs/cluster.md";
const BEGIN: &str = "<!-- claims: written by make test-cluster, and compared with each run -->\n";
const END: &str = "<!-- end of the claims -->\n";

/// The rows of a run, in the order of the steps.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

/// One claim and the observation that supports it. Equal in each run: times are in classes.
struct Row {
    step: &'static str,
    claim: String,
    observed: String,
}

impl Report {
    pub fn add(&mut self, step: &'static str, claim: impl Into<String>, observed: impl Into<String>) {
        self.rows.push(Row { step, claim: claim.into(), observed: observed.into() });
    }

    /// A table for each step.
    fn tables(&self) -> String {
        let mut text = String::new();
        let mut step = "";
        for row in &self.rows {
            if row.step != step {
                step = row.step;
                writeln!(text, "\n### {step}\n\n| claim, or what was applied | observed |\n|---|---|")
                    .expect("text");
            }
            writeln!(text, "| {} | {} |", row.claim, row.observed).expect("text");
        }
        text + "\n"
    }

    /// Asserts that the document has these tables, and no other if `all` steps have run. Then `FIRSTWORD_BLESS` writes them.
    pub fn assert_documented(&self, all: bool) {
        let path = root().join(DOCUMENT);
        let document = std::fs::read_to_string(&path).expect(DOCUMENT);
        let (before, rest) = document.split_once(BEGIN).expect("the marker before the tables");
        let (written, after) = rest.split_once(END).expect("the marker after the tables");
        let tables = self.tables();
        if all && std::env::var_os("FIRSTWORD_BLESS").is_some() {
            std::fs::write(&path, format!("{before}{BEGIN}{tables}{END}{after}")).expect(DOCUMENT);
        } else if all {
            assert_eq!(written, tables, "make test-cluster FIRSTWORD_BLESS=1 writes the tables");
        } else {
            let documented: Vec<_> = sections(written).collect();
            for table in sections(&tables) {
                assert!(documented.contains(&table), "{DOCUMENT} has another table: ### {table}");
            }
        }
    }
}

/// The table of each step, after its name.
fn sections(tables: &str) -> impl Iterator<Item = &str> {
    tables.split("\n### ").map(str::trim)
}
