//! The words that the project does not use (`tests/wording/words.txt`), and the length of sentences in comments and documents.
//!
//! `FIRSTWORD_WORDING="src/mysql CONTRIBUTING.md" cargo test --test wording -- --nocapture` lists the findings of these
//! paths.

// A test reports through a panic.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::fs::{read, read_dir};
use std::path::Path;

/// Maximum number of words in one sentence of a comment or document.
const MAX_WORDS: usize = 35;

/// Files and folders in which the language is checked.
const CHECKED: &[&str] = &[
    ".ci",
    ".github",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.toml",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "SUPPORT.md",
    "action.yml",
    "benches",
    "charts",
    "crates",
    "docs",
    "envoy",
    "istio",
    "scripts",
    "src",
    "tests",
    "tools",
];

/// Folders that hold other authors' text, what peers sent, build output, or the list of words itself.
const SKIPPED_FOLDERS: &[&str] =
    &["artifacts", "captures", "corpus", "wording", "node_modules", "target", "vendor", "__pycache__"];

/// Extensions of files that no author writes, or that hold what peers sent.
const SKIPPED_EXTENSIONS: &[&str] = &["cap", "hex", "lock", "pcap", "pcapng", "proptest-regressions", "sum"];

const SKIPPED_FILES: &[&str] = &["package-lock.json", "SHA256SUMS"];

/// The content of `words.txt`.
struct Vocabulary {
    phrases: Vec<Vec<String>>,
    allowed: Vec<String>,
}

impl Vocabulary {
    fn parse(list: &str) -> Self {
        let mut vocabulary = Self { phrases: Vec::new(), allowed: Vec::new() };
        for line in list.lines().filter(|line| !line.starts_with('#')) {
            if let Some(text) = line.strip_prefix("allow ") {
                vocabulary.allowed.push(text.to_owned());
            } else {
                let phrase = line.split('#').next().unwrap_or_default().to_lowercase();
                vocabulary.phrases.push(phrase.split_whitespace().map(str::to_owned).collect());
            }
        }
        vocabulary.phrases.retain(|phrase| !phrase.is_empty());
        vocabulary
    }

    /// The phrases in `text`, each with the number of its line.
    fn find(&self, text: &str) -> Vec<(usize, String)> {
        let mut text = text.to_owned();
        for allowed in &self.allowed {
            text = text.replace(allowed, &"~".repeat(allowed.len()));
        }
        let words = words(&text);
        let mut findings = Vec::new();
        for (first, (_, start, _)) in words.iter().enumerate() {
            let is_here = |phrase: &&Vec<String>| {
                let rest = words.get(first..first + phrase.len()).unwrap_or_default();
                let same =
                    rest.iter().zip(*phrase).filter(|((word, ..), expected)| word == *expected).count();
                let joined = |pair: &[(String, usize, usize)]| match pair {
                    [(_, _, end), (_, start, _)] => text.get(*end..*start).is_some_and(is_within_phrase),
                    _ => false,
                };
                same == phrase.len() && rest.windows(2).all(joined)
            };
            for phrase in self.phrases.iter().filter(is_here) {
                let line = text.get(..*start).unwrap_or_default().matches('\n').count() + 1;
                findings.push((line, format!("the words \"{}\"", phrase.join(" "))));
            }
        }
        findings
    }
}

/// The words of `text` in lower case, each with the offsets of its start and its end. The parts of a name are words.
fn words(text: &str) -> Vec<(String, usize, usize)> {
    let mut words: Vec<(String, usize, usize)> = Vec::new();
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        let continues = previous.is_alphabetic() && !(previous.is_lowercase() && c.is_uppercase());
        match words.last_mut() {
            Some((word, _, end)) if c.is_alphabetic() && continues => {
                word.extend(c.to_lowercase());
                *end = at + c.len_utf8();
            }
            _ if c.is_alphabetic() => words.push((c.to_lowercase().collect(), at, at + c.len_utf8())),
            _ => {}
        }
        previous = c;
    }
    words
}

/// True if two words with `gap` between them can belong to one phrase: in a name, on one line, or on two lines of a comment.
fn is_within_phrase(gap: &str) -> bool {
    gap.chars().all(|c| c.is_whitespace() || "_/!#*\\".contains(c))
}

/// The text of a line that is a comment and nothing else.
fn comment<'a>(extension: &str, line: &'a str) -> Option<(&'a str, &'a str)> {
    let markers: &[&str] = match extension {
        "md" => return Some(("", line)),
        "rs" => &["///", "//!", "//"],
        "c" | "go" | "java" | "js" | "mjs" => &["//", "/**", "/*", "*/", "*"],
        "php" => &["//", "/**", "/*", "*/", "*", "#"],
        "cnf" | "conf" | "pl" | "py" | "rules" | "sh" | "toml" | "txt" | "yaml" | "yml" => &["##", "#"],
        _ => return None,
    };
    let line = line.trim_start();
    let marker = markers.iter().find(|marker| line.starts_with(**marker))?;
    let text = line.strip_prefix(marker)?;
    (!text.starts_with('!')).then_some((marker, text))
}

/// The extension that determines the syntax of comments in the file `path` with content `text`.
fn extension<'a>(path: &'a str, text: &str) -> &'a str {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.') {
        Some((_, extension)) if !name.starts_with('.') => extension,
        _ if name == "Makefile" || text.starts_with("#!") => "sh",
        _ => "",
    }
}

/// Sentences of more than `MAX_WORDS` words in the comments of a file, each with the number of the line where it starts.
fn long_sentences(extension: &str, text: &str) -> Vec<(usize, String)> {
    let mut sentences: Vec<(usize, Vec<&str>)> = vec![(0, Vec::new())];
    let mut previous = None;
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        let (marker, line) = comment(extension, line).unzip();
        let line = line.unwrap_or_default().trim();
        let is_fence = line.starts_with("```");
        fenced =
            marker.is_some() && marker == previous && (fenced != is_fence) || marker != previous && is_fence;
        let item = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let starts = marker != previous
            || line.is_empty()
            || is_fence
            || ["- ", "* ", "#", "|", "> ", "@"].iter().any(|start| line.starts_with(start))
            || item.len() < line.len() && item.starts_with(". ")
            // A term, and its description in a column.
            || line.contains("  ");
        previous = marker;
        if starts {
            sentences.push((index + 1, Vec::new()));
        }
        if fenced || is_fence || line.starts_with('|') {
            continue;
        }
        for word in line.split_whitespace() {
            if word.chars().any(char::is_alphanumeric) {
                let (number, words) = sentences.last_mut().unwrap();
                *number = if words.is_empty() { index + 1 } else { *number };
                words.push(word);
            }
            if word.trim_end_matches([')', '"', '*', '_']).ends_with(['.', '!', '?', ':', ';']) {
                sentences.push((index + 1, Vec::new()));
            }
        }
    }
    sentences.retain(|(_, words)| words.len() > MAX_WORDS);
    let finding =
        |words: &[&str]| format!("a sentence of {} words: {} ...", words.len(), words[..6].join(" "));
    sentences.iter().map(|(line, words)| (*line, finding(words))).collect()
}

fn is_skipped(path: &Path) -> bool {
    let within = |name: Option<&std::ffi::OsStr>, list: &[&str]| {
        name.and_then(|name| name.to_str()).is_some_and(|name| list.contains(&name))
    };
    within(path.file_name(), SKIPPED_FILES)
        || if path.is_dir() {
            within(path.file_name(), SKIPPED_FOLDERS)
        } else {
            within(path.extension(), SKIPPED_EXTENSIONS)
        }
}

/// Every finding in the file or folder `path`, as `file:line: finding`. `None` if there is no such path.
fn findings(vocabulary: &Vocabulary, path: &str) -> Option<Vec<String>> {
    let on_disk = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if is_skipped(&on_disk) {
        return Some(Vec::new());
    }
    if on_disk.is_dir() {
        let mut names: Vec<_> = read_dir(&on_disk).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let paths = names
            .iter()
            .filter_map(|name| Some(format!("{}/{}", path.trim_end_matches('/'), name.to_str()?)));
        return Some(paths.filter_map(|path| findings(vocabulary, &path)).flatten().collect());
    }
    let Ok(text) = String::from_utf8(read(&on_disk).ok()?) else {
        return Some(Vec::new());
    };
    let mut found = vocabulary.find(&text);
    found.extend(long_sentences(extension(path, &text), &text));
    found.sort();
    Some(found.into_iter().map(|(line, finding)| format!("{path}:{line}: {finding}")).collect())
}

/// Every text of a document under one of these keys.
fn texts(document: &serde_json::Value, keys: &[&str], found: &mut Vec<String>) {
    if let Some(object) = document.as_object() {
        for (key, value) in object {
            if let (true, Some(text)) = (keys.contains(&key.as_str()), value.as_str()) {
                found.push(text.to_owned());
            }
            texts(value, keys, found);
        }
    } else if let Some(array) = document.as_array() {
        array.iter().for_each(|value| texts(value, keys, found));
    }
}

/// What operators read of alerts and panels is no comment.
#[test]
fn alerts_and_panels_keep_to_the_language() {
    let read = |path: &str| {
        String::from_utf8(read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()).unwrap()
    };
    let mut found = Vec::new();
    let alerts = read("envoy/observability/alerts.yaml");
    texts(&serde_norway::from_str(&alerts).unwrap(), &["summary", "description"], &mut found);
    let dashboard = read("envoy/observability/grafana/firstword.json");
    texts(&serde_json::from_str(&dashboard).unwrap(), &["title", "description", "content"], &mut found);
    assert!(found.len() > 100, "{}", found.len());
    for text in found {
        assert_eq!(long_sentences("md", &text), [], "{text}");
        assert_eq!(vocabulary().find(&text), [], "{text}");
    }
}

fn vocabulary() -> Vocabulary {
    Vocabulary::parse(include_str!("wording/words.txt"))
}

#[test]
fn the_tree_keeps_to_the_language() {
    let vocabulary = vocabulary();
    assert!(vocabulary.phrases.len() > 10);
    let mut all = Vec::new();
    for path in CHECKED {
        all.extend(findings(&vocabulary, path).unwrap_or_else(|| panic!("no file or folder {path}")));
    }
    assert!(all.is_empty(), "{} findings:\n{}", all.len(), all.join("\n"));
}

#[test]
fn findings_of_the_given_paths_are_printed() {
    let paths = std::env::var("FIRSTWORD_WORDING").unwrap_or_default();
    for path in paths.split_whitespace() {
        let found = findings(&vocabulary(), path).unwrap_or_else(|| panic!("no file or folder {path}"));
        found.iter().for_each(|finding| println!("{finding}"));
    }
}

#[test]
fn a_word_is_found_whole_in_any_case_and_in_names() {
    let vocabulary = Vocabulary::parse("# list\nalas # write nothing\n\nby and  by\nallow user(\"alas\"\n");
    let found = [
        ("x\nAlas, no", 2),
        ("fn alas_x()", 1),
        ("struct NoAlas;", 1),
        ("user(\"alas\") or (\"alas\")", 1),
        ("/// by and\n    /// by", 1),
        ("# it goes by\n# and by\n", 1),
        ("let x = by_and_by;", 1),
    ];
    for (text, line) in found {
        let findings = vocabulary.find(text);
        assert!(matches!(findings.as_slice(), [(at, _)] if *at == line), "{text}: {findings:?}");
    }
    for text in
        ["malaside", "alass", "user(\"alas\")", "by, and by", "by and", "Alas7".replace('s', "z").as_str()]
    {
        assert_eq!(vocabulary.find(text), [], "{text}");
    }
}

#[test]
fn the_list_is_read_from_its_file() {
    let vocabulary = vocabulary();
    for phrase in &vocabulary.phrases {
        assert_eq!(vocabulary.find(&phrase.join(" ")).len(), 1, "{phrase:?}");
        assert_eq!(vocabulary.find(&phrase.join("_").to_uppercase()).len(), 1, "{phrase:?}");
    }
    for allowed in &vocabulary.allowed {
        assert_eq!(vocabulary.find(allowed), [], "{allowed}");
    }
}

#[test]
fn a_sentence_in_a_comment_has_a_limit() {
    let words = |count: usize| vec!["word"; count].join(" ");
    let (half, limit, over) = (words(18), words(MAX_WORDS), words(MAX_WORDS + 1));
    let found = [
        ("rs", format!("fn f() {{}}\n\n    /// {over}."), 3),
        ("rs", format!("//! {limit}\n//! more."), 1),
        ("rs", format!("// Short. And\n// {limit}\n// end. Short."), 1),
        ("rs", format!("/// ```\n/// code.\n/// ```\n/// {over}"), 4),
        ("rs", format!("/// ```\nfn f() {{}}\n/// {over}"), 3),
        ("rs", format!("// - {half}\n//   {half}"), 1),
        ("sh", format!("#!/bin/sh\n# {half}\n# {half}"), 2),
        ("yaml", format!("a: 1\n  # {half}, {half}"), 2),
        ("java", format!("/**\n * {half}\n * {half}\n */"), 2),
        ("md", format!("# Title\n\n{half}\n{half}"), 3),
    ];
    for (extension, text, line) in found {
        let findings = long_sentences(extension, &text);
        assert!(matches!(findings.as_slice(), [(at, _)] if *at == line), "{text}: {findings:?}");
    }
    let good = [
        ("rs", format!("// {limit}.")),
        ("rs", format!("let text = \"{over}\";")),
        ("rs", format!("// {half}\nlet x = 1;\n// {half}")),
        ("rs", format!("// {half}\n\n// {half}")),
        ("rs", format!("//! {half}\n//!\n//! {half}")),
        ("rs", format!("//! {half}\n/// {half}")),
        ("rs", format!("// {half}. {half}! {half}? {half}: {half}; {half} (x.) {half}")),
        ("rs", format!("/// ```text\n/// {over}\n/// ```\n/// {limit}")),
        ("rs", format!("// - {half}\n// - {half}\n// 1. {half}\n// 2. {half}\n// | {half} | {half} |")),
        ("md", format!("| {over} |\n\n```\n{over}\n```\n{half}")),
        ("sh", format!("#   term   {half}\n#   word   {half}")),
        ("sql", format!("-- {over}")),
    ];
    for (extension, text) in good {
        assert_eq!(long_sentences(extension, &text), [], "{text}");
    }
}

#[test]
fn the_name_of_a_file_determines_its_comments() {
    assert_eq!(extension("src/lib.rs", ""), "rs");
    assert_eq!(extension("Makefile", ""), "sh");
    assert_eq!(extension(".ci/run", "#!/bin/sh\n"), "sh");
    assert_eq!(extension("tests/.gitignore", ""), "");
    assert!(
        is_skipped(Path::new("tests/search/cases.proptest-regressions"))
            && !is_skipped(Path::new("src/lib.rs"))
    );
}
