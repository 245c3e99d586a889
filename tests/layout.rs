//! The layers of the library and of its shells. In `src`, a module names only modules of lower levels, and no file names a host
//! or has unsafe code. A shell names no protocol, and has one file with unsafe code. In no crate of the workspace do imports
//! form a cycle. Tests show that each rule can fail.

// A test reports through a panic.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::read_dir;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// A longer file usually holds more than one concept.
const MAX_LINES: usize = 600;

/// The level of every module, the lowest first. The longest prefix of a module's path decides. Modules with the same
/// prefix may name each other.
const LEVELS: &[(&str, u8)] = &[
    ("clock", 0),
    ("escape", 0),
    ("labels", 0),
    ("password_key", 0),
    ("version", 0),
    ("mysql", 1),
    ("proxy_protocol", 1),
    ("rules", 2),
    ("event", 3),
    ("ports", 3),
    ("metrics", 4),
    ("session", 4),
    ("config", 5),
    ("connection::chunk", 5),
    ("connection::inspector", 6),
    ("connection::rewrite", 6),
    // Stages use what the inspector found, never the reverse.
    ("connection::stages", 7),
    ("connection", 8),
    ("filter", 9),
    ("", 10),
];

/// The shells, and the only file of each that holds unsafe code. The entry point needs an attribute in `lib.rs`.
const SHELLS: [(&str, &str); 2] =
    [("crates/proxy-wasm/src", "hostcalls"), ("crates/dynamic-module/src", "abi")];

/// A name that contains one of these is about a protocol, which only the library knows.
const PROTOCOL_WORDS: [&str; 8] =
    ["auth", "command", "greeting", "handshake", "mariadb", "mysql", "packet", "query"];

/// Folders whose crates the compiler does not build together with the library.
const OTHER_CRATES: [&str; 2] = ["crates", "tools"];

/// The files of a tree, by module path: `a::b` for `a/b.rs` and for `a/b/mod.rs`, the empty path for `lib.rs` and `main.rs`.
type Tree = BTreeMap<String, String>;

fn tree(src: impl AsRef<Path>) -> Tree {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join(src);
    let mut tree = Tree::new();
    for file in files(&src).into_iter().filter(|file| file.extension().is_some_and(|end| end == "rs")) {
        let path = file.strip_prefix(&src).unwrap().with_extension("");
        let names: Vec<_> = path.iter().map(|name| name.to_str().unwrap()).collect();
        let other = tree.insert(module(&names), std::fs::read_to_string(&file).unwrap());
        assert_eq!(other, None, "{} has a second root", src.display());
    }
    tree
}

/// The folders of all crates of the workspace but the library: those with a `lib.rs` or a `main.rs`.
fn other_crates() -> Vec<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = OTHER_CRATES.iter().flat_map(|folder| files(&workspace.join(folder)));
    let roots = files.filter(|file| ["lib.rs", "main.rs"].iter().any(|name| file.ends_with(name)));
    let sources = roots.filter(|root| root.iter().any(|name| name == "src"));
    sources.map(|root| root.parent().unwrap().strip_prefix(workspace).unwrap().to_owned()).collect()
}

fn module(names: &[&str]) -> String {
    match names {
        ["lib" | "main"] => String::new(),
        [names @ .., "mod"] | names => names.join("::"),
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.into_iter().chain(directories.iter().flat_map(|path| self::files(path))).collect()
}

/// The paths that a file names, as module paths from the root of the crate.
struct Names<'a> {
    module: Vec<&'a str>,
    /// The child modules whose names at the start of a path count.
    children: BTreeSet<String>,
    paths: Vec<Vec<String>>,
}

impl Names<'_> {
    fn of(module: &str, text: &str, unit: Unit) -> BTreeSet<String> {
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{module}: {error}"));
        let module = module.split("::").filter(|name| !name.is_empty()).collect();
        let children = file.items.iter().filter_map(|item| match item {
            syn::Item::Mod(item) if item.content.is_none() => Some(item.ident.to_string()),
            _ => None,
        });
        let children = if unit == Unit::File { children.collect() } else { BTreeSet::new() };
        let mut names = Names { module, children, paths: Vec::new() };
        names.visit_file(&file);
        names.paths.into_iter().map(|path| path.join("::")).collect()
    }

    fn add(&mut self, path: &[String]) {
        let up = path.iter().take_while(|name| *name == "super").count();
        let inside = match path.first().map(String::as_str) {
            Some("crate") => path[1..].to_vec(),
            Some("self") => self.inside(&path[1..]),
            // A name alone is a variable.
            Some(name) if path.len() > 1 && self.children.contains(name) => self.inside(path),
            Some("super") => {
                let above = self.module.iter().take(self.module.len().saturating_sub(up));
                above.map(ToString::to_string).chain(path[up..].iter().cloned()).collect()
            }
            _ => return,
        };
        self.paths.push(inside);
    }

    fn inside(&self, path: &[String]) -> Vec<String> {
        self.module.iter().map(ToString::to_string).chain(path.iter().cloned()).collect()
    }

    fn add_tree(&mut self, path: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(inner) => {
                path.push(inner.ident.to_string());
                self.add_tree(path, &inner.tree);
                path.pop();
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(path, tree)),
            syn::UseTree::Name(name) => self.add(&[&path[..], &[name.ident.to_string()]].concat()),
            syn::UseTree::Rename(name) => self.add(&[&path[..], &[name.ident.to_string()]].concat()),
            syn::UseTree::Glob(_) => self.add(path),
        }
    }
}

impl Visit<'_> for Names<'_> {
    fn visit_item_mod(&mut self, item: &syn::ItemMod) {
        // In a module within the file, `super` is the file itself.
        let name = item.ident.to_string();
        if item.content.is_some() {
            let module = [&self.module[..], &[&name]].concat();
            let mut inner = Names { module, children: BTreeSet::new(), paths: Vec::new() };
            syn::visit::visit_item_mod(&mut inner, item);
            self.paths.append(&mut inner.paths);
        }
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        self.add_tree(&mut Vec::new(), &item.tree);
    }

    fn visit_visibility(&mut self, _: &syn::Visibility) {}

    fn visit_path(&mut self, path: &syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&names);
        syn::visit::visit_path(self, path);
    }
}

/// The smallest unit of which imports may form a cycle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    File,
    /// A file with the child modules that it uses by their bare names, as in `use idle::Idle;`.
    Module,
}

/// The other files that each file names.
fn imports(tree: &Tree, unit: Unit) -> BTreeMap<&str, BTreeSet<&str>> {
    let file_of = |path: &str| {
        let mut path = path;
        loop {
            match (tree.get_key_value(path), path.rsplit_once("::")) {
                (Some((file, _)), _) => return file.as_str(),
                (None, Some((above, _))) => path = above,
                (None, None) => return "",
            }
        }
    };
    let of = |module: &str, text: &str| {
        let files: BTreeSet<_> = Names::of(module, text, unit).iter().map(|path| file_of(path)).collect();
        files.into_iter().filter(|file| *file != module).collect()
    };
    tree.iter().map(|(module, text)| (module.as_str(), of(module, text))).collect()
}

/// The prefix that decides the level of a module, and the level.
fn level(module: &str) -> (&'static str, u8) {
    let has = |prefix: &str| {
        prefix.is_empty()
            || module.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    *LEVELS.iter().filter(|(prefix, _)| has(prefix)).max_by_key(|(prefix, _)| prefix.len()).unwrap()
}

/// A source tree with rules of its own.
#[derive(Clone, Copy)]
enum Part {
    Library,
    /// `unsafe_file`: the only file that holds unsafe code.
    Shell {
        unsafe_file: &'static str,
    },
}

/// All problems of a tree.
fn problems(part: Part, tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    let imports = imports(tree, Unit::Module);
    for (module, text) in tree {
        let lines = text.lines().count();
        if lines > MAX_LINES {
            problems.push(format!("{module} has {lines} lines, more than {MAX_LINES}"));
        }
        let found = match part {
            Part::Library => library_problems(module, text, &imports[module.as_str()]),
            Part::Shell { unsafe_file } => shell_problems(module, text, unsafe_file),
        };
        problems.extend(found.into_iter().map(|problem| format!("{module} {problem}")));
    }
    problems.extend(cycle_problem(&imports));
    problems
}

fn cycle_problem(imports: &BTreeMap<&str, BTreeSet<&str>>) -> Option<String> {
    cycle(imports).map(|cycle| format!("imports form a cycle: {}", cycle.join(" -> ")))
}

fn library_problems(module: &str, text: &str, named: &BTreeSet<&str>) -> Vec<String> {
    let (prefix, own) = level(module);
    let above = named.iter().filter(|named| level(named).0 != prefix && level(named).1 >= own);
    let mut problems: Vec<_> =
        above.map(|named| format!("names {named}, which is not on a lower level")).collect();
    if Unsafe::of(text) != Unsafe::default() {
        problems.push("holds unsafe code".into());
    }
    problems.extend(text.contains("proxy_wasm").then(|| "names a host".into()));
    problems
}

fn shell_problems(module: &str, text: &str, unsafe_file: &str) -> Vec<String> {
    let Unsafe { is_allowed, is_used } = Unsafe::of(text);
    let mut problems = Vec::new();
    // The macro that exports the entry point needs the attribute.
    if module != unsafe_file && (is_used || is_allowed && !module.is_empty()) {
        problems.push("holds unsafe code".into());
    }
    let about_protocols = |name: &&String| PROTOCOL_WORDS.iter().any(|word| name.contains(word));
    problems.extend(identifiers(text).iter().filter(about_protocols).map(|name| format!("names {name}")));
    problems
}

/// The identifiers of a file in lower case.
fn identifiers(text: &str) -> BTreeSet<String> {
    struct Identifiers(BTreeSet<String>);
    impl Visit<'_> for Identifiers {
        fn visit_ident(&mut self, name: &syn::Ident) {
            self.0.insert(name.to_string().to_lowercase());
        }
    }
    let mut found = Identifiers(BTreeSet::new());
    found.visit_file(&syn::parse_file(text).unwrap());
    found.0
}

/// The files in a cycle of imports. Removes files that name no remaining file, until none can be removed.
fn cycle<'a>(imports: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    let mut left = imports.clone();
    let names_none = |left: &BTreeMap<_, BTreeSet<&'a str>>| {
        let mut files = left.iter();
        files.find(|(_, named)| named.iter().all(|named| !left.contains_key(named))).map(|(file, _)| *file)
    };
    while let Some(file) = names_none(&left) {
        left.remove(file);
    }
    let mut path = vec![*left.keys().next()?];
    loop {
        let next = left[path[path.len() - 1]].iter().find(|named| left.contains_key(*named))?;
        if let Some(start) = path.iter().position(|file| file == next) {
            return Some([&path[start..], &[*next]].concat());
        }
        path.push(next);
    }
}

/// The unsafe code of a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unsafe {
    /// True if an attribute allows it.
    is_allowed: bool,
    is_used: bool,
}

impl Unsafe {
    fn of(text: &str) -> Self {
        let mut found = Self::default();
        found.visit_file(&syn::parse_file(text).unwrap());
        found
    }
}

impl Visit<'_> for Unsafe {
    fn visit_attribute(&mut self, attribute: &syn::Attribute) {
        let list = attribute.meta.require_list();
        self.is_allowed |= list.is_ok_and(|list| list.tokens.to_string().contains("unsafe_code"));
    }
    fn visit_expr_unsafe(&mut self, _: &syn::ExprUnsafe) {
        self.is_used = true;
    }
    fn visit_item_foreign_mod(&mut self, _: &syn::ItemForeignMod) {
        self.is_used = true;
    }
    fn visit_signature(&mut self, signature: &syn::Signature) {
        self.is_used |= signature.unsafety.is_some();
    }
}

#[test]
fn the_library_keeps_to_the_layout() {
    let tree = tree("src");
    let problems = problems(Part::Library, &tree);
    assert!(problems.is_empty(), "{problems:#?}");
    for (prefix, _) in LEVELS {
        assert!(
            tree.keys().any(|module| level(module).0 == *prefix),
            "a level for {prefix}, which is no module"
        );
    }
}

#[test]
fn the_shells_keep_to_the_layout() {
    for (src, unsafe_file) in SHELLS {
        let tree = tree(src);
        assert!(tree.contains_key(unsafe_file), "{src}");
        let problems = problems(Part::Shell { unsafe_file }, &tree);
        assert!(problems.is_empty(), "{src}: {problems:#?}");
    }
}

#[test]
fn no_crate_of_the_workspace_has_an_import_cycle() {
    let crates = other_crates();
    for src in ["crates/cli/src", "crates/testing/src", "tools/src/bin/record"] {
        assert!(crates.iter().any(|found| found == Path::new(src)), "{src} is not among {crates:?}");
    }
    for src in crates {
        let unit = if src.starts_with("crates") { Unit::File } else { Unit::Module };
        let tree = tree(&src);
        assert_eq!(cycle_problem(&imports(&tree, unit)), None, "{}", src.display());
    }
}

/// A tree of these files and of an empty root, if it is not among them.
fn tree_of(files: &[(&str, &str)]) -> Tree {
    let mut tree: Tree =
        files.iter().map(|(module, text)| ((*module).to_owned(), (*text).to_owned())).collect();
    tree.entry(String::new()).or_default();
    tree
}

fn problems_of(part: Part, files: &[(&str, &str)]) -> Vec<String> {
    problems(part, &tree_of(files))
}

#[test]
fn the_rule_about_cycles_can_fail() {
    let cases: [(&[(&str, &str)], &str); 5] = [
        (
            &[("", "mod follow; pub struct State;"), ("follow", "use crate::State;")],
            // A declaration alone is no import.
            "",
        ),
        (&[("", "mod follow; use follow::Follow;"), ("follow", "use crate::State;")], " -> follow -> "),
        (
            &[("", "mod follow; fn f() { follow::run(); }"), ("follow", "fn f(_: super::State) {}")],
            " -> follow -> ",
        ),
        (
            &[("inspect", "use self::follow::Follow;"), ("inspect::follow", "use super::State;")],
            "inspect -> inspect::follow -> inspect",
        ),
        (
            &[
                ("destination", "use super::simulate::Kind;"),
                ("plugin", "use super::destination::Destination;"),
                ("simulate", "use super::plugin::Plugin;"),
            ],
            "destination -> simulate -> plugin -> destination",
        ),
    ];
    for (files, cycle) in cases {
        let expected = (!cycle.is_empty()).then(|| format!("imports form a cycle: {cycle}"));
        assert_eq!(cycle_problem(&imports(&tree_of(files), Unit::File)), expected, "{files:?}");
    }
}

#[test]
fn each_rule_can_fail() {
    let long = "\n".repeat(MAX_LINES + 1);
    let above = |module: &str, named: &str| format!("{module} names {named}, which is not on a lower level");
    let session = ("session", "");
    let cases: [(&[(&str, &str)], String); 12] = [
        (&[("ports", long.as_str())], "ports has 601 lines, more than 600".into()),
        (&[("session", "fn f() { unsafe { g() } }")], "session holds unsafe code".into()),
        (&[("session", "#![allow(unsafe_code)]")], "session holds unsafe code".into()),
        (&[("", "#![allow(unsafe_code)]")], " holds unsafe code".into()),
        (&[("filter", "use proxy_wasm::types::Action;")], "filter names a host".into()),
        (&[session, ("event", "use crate::session::Session;")], above("event", "session")),
        (&[session, ("metrics", "use crate::session as s;")], above("metrics", "session")),
        (&[session, ("mysql", "fn f(_: &super::session::Session) {}")], above("mysql", "session")),
        (&[session, ("event::hazard", "use super::super::session::*;")], above("event::hazard", "session")),
        (
            &[
                session,
                ("mysql", ""),
                ("event", "use crate::{mysql::{wire, sql}, session::{self, Session}};"),
            ],
            above("event", "session"),
        ),
        (&[session, ("event", "mod tests { use super::super::session::*; }")], above("event", "session")),
        (
            &[("session", "use crate::session::idle::Idle;"), ("session::idle", "use super::Session;")],
            "imports form a cycle: session -> session::idle -> session".into(),
        ),
    ];
    for (files, problem) in cases {
        assert_eq!(problems_of(Part::Library, files), [problem], "{files:?}");
    }
}

#[test]
fn each_rule_of_a_shell_can_fail() {
    let shell = Part::Shell { unsafe_file: "hostcalls" };
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[("stream", "fn f() { unsafe { g() } }")], "stream holds unsafe code"),
        (&[("stream", "#![allow(unsafe_code)]")], "stream holds unsafe code"),
        (&[("", "unsafe fn f() {}")], " holds unsafe code"),
        (&[("stream", "use firstword::event::Command;")], "stream names command"),
        (&[("stream", "fn parse_handshake() {}")], "stream names parse_handshake"),
        (
            &[("root", "use crate::stream::Stream;"), ("stream", "use crate::root::Root;")],
            "imports form a cycle: root -> stream -> root",
        ),
    ];
    for (files, problem) in cases {
        assert_eq!(problems_of(shell, files), [problem], "{files:?}");
    }
    let allowed = [
        ("", "#[allow(unsafe_code)] mod abi {}"),
        ("hostcalls", "unsafe extern \"C\" {}"),
        (
            "stream",
            "// Forwards packets of MySQL.\nuse crate::hostcalls::close; use proxy_wasm::types::Action;",
        ),
    ];
    assert_eq!(problems_of(shell, &allowed), [""; 0]);
}

#[test]
fn lower_levels_and_comments_may_be_named() {
    let files = [
        (
            "session",
            "// as crate::filter does, unsafe\nuse crate::event::Event; use crate::session::idle::Idle;",
        ),
        ("session::idle", "pub(super) struct Idle; mod tests { use super::*; }"),
        ("event", "use crate::mysql::{wire::errno, sql};"),
        ("mysql", ""),
    ];
    assert_eq!(problems_of(Part::Library, &files), [""; 0]);
}
