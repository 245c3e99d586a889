//! `firstword explain`: one text for each code of a finding.

mod code;
mod configuration;
mod envoy;
mod filter;
mod hangs;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use firstword::escape;

pub(crate) use code::Code;

use crate::paint::{BOLD, Paint};
use crate::wrap::wrapped;

/// Explain a finding by its code
///
/// Without a code it lists all of them.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// The code in brackets behind a severity, as in error[port-conflict]
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

const HELP: &str = "Examples:
  firstword explain port-conflict
  firstword explain

Exit status: 0; 2 if there is no such code.
The hazards that \"firstword inspect\" names are in docs/hazards.md.";

/// All codes, by subject.
fn all() -> impl Iterator<Item = &'static Code> {
    hangs::CODES.iter().chain(envoy::CODES).chain(filter::CODES).chain(configuration::CODES)
}

/// The explanation of a code.
pub(crate) fn of(code: &str) -> Option<&'static Code> {
    all().find(|known| known.code == code)
}

pub(crate) fn run(arguments: &Arguments, paint: Paint) -> ExitCode {
    let text = match &arguments.code {
        None => list(),
        Some(code) => match of(code) {
            Some(code) => explanation(code, paint),
            None => {
                let _ = writeln!(
                    io::stderr(),
                    "firstword explain: no finding has the code {}; \"firstword explain\" lists all codes",
                    escape::text(code)
                );
                return ExitCode::from(2);
            }
        },
    };
    // It is not an error if the reader closes its end.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn list() -> String {
    let mut text = String::new();
    for code in all() {
        let _ = writeln!(text, "{:35} {}", code.code, code.title);
    }
    text
}

fn explanation(code: &Code, paint: Paint) -> String {
    let Code { code, title, text, docs } = code;
    format!("{}: {title}\n\n{}\n\nMore: {docs}\n", paint.with(BOLD, code), wrapped(text).join("\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn sources(directory: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
        files.into_iter().chain(directories.iter().flat_map(|path| sources(path))).collect()
    }

    /// The codes in the sources: texts of lower-case words with hyphens that are a whole literal.
    fn used() -> BTreeSet<String> {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let of = ["doctor", "check_config"].map(|name| sources(&src.join(name))).concat();
        let texts = of.iter().map(|path| std::fs::read_to_string(path).unwrap());
        let is_code = |literal: &str| {
            literal.contains('-')
                && literal
                    .split('-')
                    .all(|word| !word.is_empty() && word.chars().all(|char| char.is_ascii_lowercase()))
        };
        let literals = |text: String| {
            let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
            code.split('"')
                .skip(1)
                .step_by(2)
                .filter(|text| is_code(text))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        texts.flat_map(literals).collect()
    }

    #[test]
    fn each_code_has_one_explanation() {
        /// Literals with hyphens that are no codes.
        const OTHERS: [&str; 10] = [
            "current-context",
            "firstword-dns",
            "firstword-listener-add",
            "firstword-mysql",
            "firstword-sniff-timeout",
            "istio-peer-exchange",
            "istio-proxy",
            "mysql-pods",
            "pilot-agent",
            "proxy-config",
        ];
        let known: BTreeSet<_> = all().map(|code| code.code.to_owned()).collect();
        assert_eq!(known.len(), all().count(), "a code has two explanations");
        let used: BTreeSet<_> = used().into_iter().filter(|code| !OTHERS.contains(&code.as_str())).collect();
        let single = ["configuration", "skipped", "inspector", "undecided"].map(str::to_owned);
        let used: BTreeSet<_> = used.into_iter().chain(single).collect();
        assert_eq!(used.difference(&known).collect::<Vec<_>>(), [""; 0], "codes without an explanation");
        assert_eq!(known.difference(&used).collect::<Vec<_>>(), [""; 0], "explanations without a finding");
        assert!(used.len() > 45, "{}", used.len());
    }

    /// The section of a heading's text, as GitHub writes it.
    fn section(heading: &str) -> String {
        let kept = heading.to_lowercase();
        let kept = kept.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
        kept.collect::<String>().trim().replace(' ', "-")
    }

    #[test]
    fn each_explanation_names_a_section_that_exists() {
        let root = firstword_testing::root();
        for code in all() {
            assert!(code.title.len() < 100 && !code.title.ends_with('.'), "{}", code.code);
            assert!(code.text.ends_with('.'), "{}", code.code);
            let (path, wanted) = code.docs.split_once('#').unwrap_or((code.docs, ""));
            let page = std::fs::read_to_string(root.join(path));
            let page = page.unwrap_or_else(|error| panic!("{}: {path}: {error}", code.code));
            let headings = page.lines().filter(|line| line.starts_with('#'));
            let mut sections = headings.map(|line| section(line.trim_start_matches('#')));
            assert!(
                wanted.is_empty() || sections.any(|section| section == wanted),
                "{}: {}",
                code.code,
                code.docs
            );
        }
    }
}
