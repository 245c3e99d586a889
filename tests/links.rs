//! Each link of the documents has a target, on GitHub and in the book, and each page has one place in the book.

// A test reports through a panic.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{read_dir, read_to_string};
use std::path::{Component, Path, PathBuf};

use regex::Regex;

/// Address of a file of this repository on GitHub.
const REPOSITORY: &str = "https://github.com/firstword/firstword/blob/main/";

/// Folders in which no file is ours.
const FOREIGN: [&str; 4] = ["target", ".git", "node_modules", "vendor"];

/// The kinds of pages, in the order of the book.
const KINDS: [&str; 4] = ["Tutorials", "How-to guides", "Reference", "Explanation"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Files of a folder and its subfolders with one of these extensions.
fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !FOREIGN.contains(&name) && !path.is_symlink() {
                found.extend(files(&path, extensions));
            }
        } else if path.extension().is_some_and(|found| extensions.contains(&found.to_str().unwrap())) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => assert!(normal.pop(), "{}", path.display()),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

/// Lines outside of fenced code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence
    })
}

/// The fragments that GitHub makes of the headings, and explicit anchors.
fn fragments(text: &str) -> BTreeSet<String> {
    let link = Regex::new(r"\[([^\]]*)\]\([^)]*\)").unwrap();
    let anchor = Regex::new(r#"<a id="([^"]+)">"#).unwrap();
    let mut times = BTreeMap::new();
    let mut found = BTreeSet::new();
    for line in prose(text) {
        found.extend(anchor.captures_iter(line).map(|id| id[1].to_owned()));
        let Some(heading) = line.strip_prefix('#') else { continue };
        let heading = link.replace_all(heading.trim_start_matches('#').trim(), "$1").to_lowercase();
        let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
        let fragment = heading.chars().filter(kept).collect::<String>().replace(' ', "-");
        let before = times.entry(fragment.clone()).or_insert(0);
        found.insert(if *before == 0 { fragment } else { format!("{fragment}-{before}") });
        *before += 1;
    }
    found
}

/// Why a link to `file` and a fragment leads nowhere. `None` if it has a target.
fn fault(file: &Path, fragment: &str) -> Option<&'static str> {
    if !file.exists() {
        return Some("no such file");
    }
    let is_page = file.extension().is_some_and(|extension| extension == "md");
    (is_page && !fragment.is_empty() && !fragments(&read(file)).contains(fragment))
        .then_some("no such heading")
}

/// The path and the fragment of a link.
fn parts(link: &str) -> (&str, &str) {
    link.split_once('#').unwrap_or((link, ""))
}

#[test]
fn every_link_in_a_document_has_a_target() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut faults = Vec::new();
    let mut followed = 0;
    for document in files(root(), &["md"]) {
        let text = prose(&read(&document)).collect::<Vec<_>>().join("\n");
        for found in link.captures_iter(&text).filter(|found| !found[1].contains("://")) {
            let (file, fragment) = parts(&found[1]);
            let target =
                if file.is_empty() { document.clone() } else { normal(&document.with_file_name(file)) };
            followed += 1;
            if let Some(fault) = fault(&target, fragment) {
                faults.push(format!("{}: {}: {fault}", document.display(), &found[1]));
            }
        }
    }
    assert!(followed > 200, "{followed}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Alerts, panels, manifests and messages link to pages on GitHub.
#[test]
fn every_address_of_a_file_of_this_repository_has_a_target() {
    let link = Regex::new(&format!(r#"{REPOSITORY}([^)\s"'`,<>]+)"#)).unwrap();
    let mut faults = Vec::new();
    let mut followed = 0;
    for file in files(root(), &["json", "md", "rs", "sh", "toml", "tpl", "yaml", "yml"]) {
        // A dot at the end is that of the sentence. An address that ends with a brace or the prefix alone is completed by a program.
        for found in link.captures_iter(&read(&file)) {
            let (target, fragment) = parts(found[1].trim_end_matches('.'));
            if target.contains(['{', '$']) || fragment.contains(['{', '$']) {
                continue;
            }
            followed += 1;
            if let Some(fault) = fault(&root().join(target), fragment) {
                faults.push(format!("{}: {}: {fault}", file.display(), &found[1]));
            }
        }
    }
    assert!(followed > 20, "{followed}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Pages of the book: their kind (empty for the first page), their name and their path in `docs`.
fn summary() -> Vec<(String, String, String)> {
    let entry = Regex::new(r"^ *-? *\[(.+)\]\(([^)]+)\)$").unwrap();
    let mut kind = String::new();
    let mut pages = Vec::new();
    for line in read(&root().join("docs/SUMMARY.md")).lines().skip(1).filter(|line| !line.is_empty()) {
        if let Some(part) = line.strip_prefix("# ") {
            part.clone_into(&mut kind);
        } else {
            let entry = entry.captures(line).unwrap_or_else(|| panic!("docs/SUMMARY.md: {line}"));
            pages.push((kind.clone(), entry[1].to_owned(), entry[2].to_owned()));
        }
    }
    pages
}

#[test]
fn each_page_has_one_place_in_the_book_and_one_name() {
    let docs = root().join("docs");
    let pages = summary();
    let listed: Vec<_> = pages.iter().map(|(_, _, path)| docs.join(path)).collect();
    let mut sorted = listed.clone();
    sorted.sort();
    let mut exist = files(&docs, &["md"]);
    exist.retain(|path| !path.ends_with("SUMMARY.md"));
    assert_eq!(sorted, exist, "docs/SUMMARY.md and the files in docs");
    for ((_, name, _), path) in pages.iter().zip(&listed) {
        let text = read(path);
        assert_eq!(
            text.lines().next().and_then(|line| line.strip_prefix("# ")),
            Some(name.as_str()),
            "{}",
            path.display()
        );
    }
    let mut kinds: Vec<_> =
        pages.iter().map(|(kind, _, _)| kind.as_str()).filter(|kind| !kind.is_empty()).collect();
    kinds.dedup();
    assert_eq!(kinds, KINDS);
}

/// Two links lead from "MySQL hangs" in the README to the file that fixes it.
#[test]
fn the_fix_of_the_hang_is_two_links_away() {
    assert!(read(&root().join("README.md")).contains("](docs/hang.md)"));
    assert!(
        read(&root().join("docs/hang.md")).contains("](../istio/scenarios/port-conflict/serviceentry.yaml)")
    );
}

/// `make docs` builds the book and runs this.
mod needs_book {
    use super::*;

    /// Targets of a page of the book: what its elements are called, and what its links say.
    fn ids_and_links(html: &str) -> (BTreeSet<String>, Vec<String>) {
        let id = Regex::new(r#"\sid="([^"]+)""#).unwrap();
        let link = Regex::new(r#"\s(?:href|src)="([^"]+)""#).unwrap();
        let all = |pattern: &Regex| {
            pattern.captures_iter(html).map(|found| found[1].to_owned()).collect::<Vec<_>>()
        };
        (all(&id).into_iter().collect(), all(&link))
    }

    #[test]
    #[ignore = "needs the book; make docs builds it"]
    fn every_link_of_the_book_has_a_target() {
        let book = root().join("target/book");
        let pages: BTreeMap<_, _> = files(&book, &["html"])
            .into_iter()
            // A frame without links, and pages that have no place: the sum of all pages, and the page of a wrong address.
            .filter(|path| {
                !path.ends_with("toc.html") && !path.ends_with("print.html") && !path.ends_with("404.html")
            })
            .map(|path| (path.clone(), ids_and_links(&read(&path))))
            .collect();
        assert!(pages.len() >= summary().len(), "{}", pages.len());
        let mut faults = Vec::new();
        let mut followed = 0;
        for (page, (_, links)) in &pages {
            for link in links.iter().filter(|link| !link.contains("://") && !link.starts_with("data:")) {
                let (file, fragment) = parts(link);
                let target = if file.is_empty() { page.clone() } else { normal(&page.with_file_name(file)) };
                let has_fragment = || pages.get(&target).is_none_or(|(ids, _)| ids.contains(fragment));
                followed += 1;
                if !target.is_file() {
                    faults.push(format!("{}: {link}: no such file", page.display()));
                } else if !fragment.is_empty() && !has_fragment() {
                    faults.push(format!("{}: {link}: no such element", page.display()));
                }
            }
            let own = links.iter().filter_map(|link| link.strip_prefix(REPOSITORY));
            for link in own {
                let (file, fragment) = parts(link);
                followed += 1;
                if let Some(fault) = fault(&root().join(file), fragment) {
                    faults.push(format!("{}: {link}: {fault}", page.display()));
                }
            }
        }
        assert!(followed > 500, "{followed}");
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
