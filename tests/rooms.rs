//! The rooms of `src/`: each builds on those below it, and on no other.
//!
//! A room is a folder of `src/`, or a file that stands there alone. The table is their order, from the ground up; what each is for
//! is in `docs/architecture.md`. A room that imports only what stands before it in the table can be read, changed and tested without
//! those after it, and circles between rooms cannot be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// From the ground up.
const ROOMS: [&str; 20] = [
    "error",
    "sys",
    "check",
    "fuzz", // for tests only
    "sync",
    "heap",
    "queue",
    "channel",
    "task",
    "inspect",
    "worker",
    "supervisor",
    "bootstrap",
    "family",
    "cluster",
    "pool",
    "node",
    "process",
    "safe",
    "ffi",
];

/// A file, and a room above its own that it still imports. This list only gets shorter.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// A file's path below `src`, and its text.
type Source = (PathBuf, String);

fn sources(folder: &Path, root: &Path, into: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).expect("a folder of src") {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() {
            sources(&path, root, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            into.push((path.strip_prefix(root).expect("a path below src").to_owned(), text));
        }
    }
}

/// A word, or a sign that stands alone; `::` is one.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if let Some(length) = raw_literal_length(rest) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment_length(rest)
        } else if let Some(length) = literal_length(rest) {
            length
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length.min(rest.len())..];
    }
    tokens
}

/// The length of the comment in which `text` begins: comments in it belong to it.
fn comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let step = match &text.as_bytes()[at..text.len().min(at + 2)] {
            b"/*" => 1,
            b"*/" => -1,
            _ => 0,
        };
        depth += step;
        at += if step == 0 { 1 } else { 2 };
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of the string or character in which `text` begins, if it begins in one. A lifetime is none.
fn literal_length(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let mut end = 1;
    while end < text.len() && text.as_bytes()[end] != quote as u8 {
        end += if text.as_bytes()[end] == b'\\' { 2 } else { 1 };
    }
    let is_character = || text[1..].starts_with('\\') || text.chars().nth(2) == Some('\'');
    (quote == '"' || is_character()).then_some(end + 1)
}

/// The length of the string in which `text` begins, if it begins in one without escapes: `r"\"`, `br#"..."#`.
fn raw_literal_length(text: &str) -> Option<usize> {
    let hashes = ["r", "br", "cr"].iter().find_map(|prefix| text.strip_prefix(prefix))?;
    let inside = hashes.trim_start_matches('#').strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes.len() - inside.len() - 1));
    Some(inside.find(&end).map_or(text.len(), |at| text.len() - inside.len() + at + end.len()))
}

/// The rooms that a file names: `crate::room`, `crate::{room, ...}`, and the same by as many `super::` as lead to the root. Another
/// name for the root, or all that is in it, counts as the room `crate`, which is none.
fn named_rooms(path: &Path, text: &str) -> BTreeSet<String> {
    let stem = path.file_stem().expect("a file's name").to_str().expect("a name in UTF-8");
    let folders = path.components().count() - 1;
    // How far below the root the file's own module is.
    let own = if stem == "mod" { folders } else { folders + 1 };
    let tokens = tokens(text);
    let (mut rooms, mut braces, mut inner) = (BTreeSet::new(), 0usize, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" => braces += 1,
            "}" => {
                braces = braces.saturating_sub(1);
                inner.retain(|opened| *opened < braces + 1);
            }
            "mod" if tokens.get(at + 2).is_some_and(|token| token == "{") => inner.push(braces + 1),
            "crate" | "self" | "super" if begins_a_path(&tokens, at) => {
                names_in(&tokens, at, Some(own + inner.len()), &mut rooms);
            }
            _ => (),
        }
    }
    rooms
}

/// Whether the word at `at` is the first of a path. `pub(crate)` and `pub(super)` name nothing.
fn begins_a_path(tokens: &[String], at: usize) -> bool {
    (at == 0 || tokens[at - 1] != "::") && tokens.get(at + 1).is_none_or(|next| next != ")")
}

/// The rooms that one path names, or a list of paths in braces, which begins at `at`, and where it ends. `above` says how many
/// modules the path so far is below the root; `None`: in a module that has been named.
fn names_in(
    tokens: &[String],
    mut at: usize,
    mut above: Option<usize>,
    into: &mut BTreeSet<String>,
) -> usize {
    loop {
        let token = tokens.get(at).map_or("", String::as_str);
        match token {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = names_in(tokens, at, above, into);
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                }
                return at + 1;
            }
            "crate" => above = Some(0),
            "self" => (),
            "super" => above = above.map(|above| above.saturating_sub(1)),
            name => {
                if above == Some(0) && is_name(name) {
                    into.insert(room_of(name));
                } else if above == Some(0) && name == "*" {
                    into.insert("crate".to_owned());
                }
                above = None;
            }
        }
        at += 1;
        match tokens.get(at).map_or("", String::as_str) {
            "::" => at += 1,
            "as" => {
                if above == Some(0) {
                    into.insert("crate".to_owned());
                }
                return at + 2;
            }
            _ => return at,
        }
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// What the root hands on belongs to a room all the same.
fn room_of(name: &str) -> String {
    match name {
        "Error" | "Result" => "error".to_owned(),
        name => name.to_owned(),
    }
}

fn floor_of(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

/// Each import of a room that does not stand below the file's own: the file and that room.
fn imports_upward(sources: &[Source]) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (path, text) in sources {
        let file = path.to_str().expect("a name in UTF-8").to_owned();
        let own = path.components().next().expect("a path").as_os_str().to_str().expect("a name in UTF-8");
        let own = own.trim_end_matches(".rs");
        if own == "lib" {
            continue; // The root itself: it names them all.
        }
        let floor = floor_of(own).unwrap_or_else(|| panic!("the room {own} is not in the table"));
        for room in named_rooms(path, text) {
            // Whatever is no room stands below none.
            if floor_of(&room).is_none_or(|other| other >= floor) && room != own {
                found.insert((file.clone(), room));
            }
        }
    }
    found
}

#[test]
fn every_room_imports_only_rooms_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    sources(&root, &root, &mut all);
    assert!(all.len() > 100, "only {} files found", all.len());
    let found = imports_upward(&all);
    let allowed: BTreeSet<_> =
        EXCEPTIONS.iter().map(|(file, room)| ((*file).to_owned(), (*room).to_owned())).collect();
    let upward: Vec<_> =
        found.difference(&allowed).map(|(file, room)| format!("\n  {file} imports {room}")).collect();
    assert!(upward.is_empty(), "rooms are imported that do not stand below:{}", upward.concat());
    let needless: Vec<_> = allowed.difference(&found).collect();
    assert!(needless.is_empty(), "exceptions that are not needed any more: {needless:?}");
}

/// What does not argue in a SAFETY line: that another place has said it, or that somebody has.
const NO_ARGUMENTS: [&str; 5] =
    ["as above", "see above", "says the caller", "the caller's promise", "the same"];

/// The SAFETY lines of a file that do not argue.
fn empty_arguments(text: &str) -> Vec<&str> {
    let is_empty = |line: &&str| {
        let argument = line.split_once("// SAFETY: ").map_or("", |(_, argument)| argument).to_lowercase();
        NO_ARGUMENTS
            .iter()
            .any(|words| argument.starts_with(words) || argument.contains(&format!("{words}.")))
    };
    text.lines().filter(is_empty).collect()
}

#[test]
fn every_safety_line_argues() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    sources(&root, &root, &mut all);
    for (path, text) in &all {
        let empty = empty_arguments(text);
        assert!(empty.is_empty(), "{} does not argue: {empty:#?}", path.display());
    }
    for line in [
        "// SAFETY: as above.",
        "// SAFETY: as above; it is asked no more.",
        "    // SAFETY: nobody uses the blocks, says the caller.",
        "// SAFETY: the caller's promise; all bytes have been written.",
    ] {
        assert_eq!(empty_arguments(line), [line]);
    }
    assert!(empty_arguments("// SAFETY: the handle is the same in every thread that has it.").is_empty());
}

/// The files of `src/` that a part of `docs/architecture.md` names by their paths in tables.
fn files_in_tables(part: &str) -> BTreeSet<&str> {
    let rows = part.lines().filter(|line| line.starts_with('|'));
    rows.flat_map(|row| row.split('`')).filter(|name| name.contains('/') && name.ends_with(".rs")).collect()
}

#[test]
fn the_way_of_one_task_is_as_long_as_the_page_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/architecture.md")).expect("the page");
    let (_, way) = page.split_once("### The way of one task").expect("the part on the way of one task");
    let (way, changes) = way.split_once("### Where would I change").expect("the part on changes");
    let files = files_in_tables(way);
    assert_eq!(files.len(), 16, "{files:?}");
    for file in &files {
        assert!(root.join("src").join(file).exists(), "{file} is not there");
    }
    for file in files_in_tables(changes) {
        let is_there = ["src", ".", "src/pool"].iter().any(|folder| root.join(folder).join(file).exists());
        assert!(is_there, "{file} is not there");
    }
}

#[test]
fn a_planted_import_is_found() {
    let upward = |path: &str, text: &str| {
        imports_upward(&[(PathBuf::from(path), text.to_owned())])
            .into_iter()
            .map(|(_, room)| room)
            .collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(upward("sys/fd.rs", "use crate::pool::Pool;"), ["pool"]);
    assert_eq!(upward("sys/fd.rs", "use crate::{error::Code, pool::{Pool, heap}};"), ["pool"]);
    assert_eq!(upward("sys/fd.rs", "fn f() -> crate::heap::Heap {}"), ["heap"]);
    assert_eq!(upward("heap/mod.rs", "use super::pool::Pool;"), ["pool"]);
    assert_eq!(upward("heap/slab.rs", "mod tests { use super::super::super::pool; }"), ["pool"]);
    assert_eq!(upward("check.rs", "use super::{error, ffi};"), ["ffi"]);
    assert_eq!(upward("heap/slab.rs", "mod tests { use super::super::pool; use super::ffi; }"), none);
    assert_eq!(
        upward("pool/mod.rs", "use crate::{error, sys::{fd, ffi}}; // crate::ffi\n\"crate::ffi\""),
        none
    );
    assert_eq!(upward("sys/fd.rs", "use crate::Error; use crate::sys::raw;"), none);
    // By a list, and from where the file itself is.
    assert_eq!(upward("heap/slab.rs", "use super::{super::pool::Pool, x};"), ["pool"]);
    assert_eq!(upward("heap/slab.rs", "use super::{x::{self, y}, super::{sync, pool::Pool}};"), ["pool"]);
    assert_eq!(upward("heap/slab.rs", "use self::super::super::pool::Pool;"), ["pool"]);
    assert_eq!(upward("heap/slab.rs", "use super::{super::sync::Mutex, pool::Pool};"), none);
    assert_eq!(upward("heap/slab.rs", "pub(crate) fn f(self: super::super::pool::P) {}"), ["pool"]);
    // By another name for the root, and by all that is in it.
    assert_eq!(upward("heap/slab.rs", "use super::super as root; fn f() { root::pool::f(); }"), ["crate"]);
    assert_eq!(upward("sys/fd.rs", "use crate as c; fn f() { c::pool::f(); }"), ["crate"]);
    assert_eq!(upward("sys/fd.rs", "use crate::{self as c}; fn f() { c::pool::f(); }"), ["crate"]);
    assert_eq!(upward("sys/fd.rs", "use crate::*; fn f() { pool::f(); }"), ["crate"]);
    assert_eq!(upward("heap/mod.rs", "use super::*; fn f() { pool::f(); }"), ["crate"]);
    assert_eq!(upward("heap/slab.rs", "use super as heap; use super::*;"), none);
    // Behind what is no code.
    assert_eq!(upward("sys/fd.rs", "const C: char = '\\\"'; use crate::pool::Pool;"), ["pool"]);
    assert_eq!(upward("sys/fd.rs", "const C: char = '\"'; use crate::pool::Pool;"), ["pool"]);
    assert_eq!(upward("sys/fd.rs", "fn f<'a>() { r\"\\\"; crate::pool::f(); \"\"; }"), ["pool"]);
    assert_eq!(upward("sys/fd.rs", "const S: &str = r#\"\"\"#; use crate::pool::Pool;"), ["pool"]);
    assert_eq!(upward("sys/fd.rs", "/* a /* b */ \" */ use crate::pool::Pool;"), ["pool"]);
    assert_eq!(upward("sys/fd.rs", "const S: &str = r#\"\" crate::pool\"#; /* /* */ crate::pool */"), none);
}

/// The tokens of a file without the items that are only built for tests: those behind a `#[cfg(test)]`.
fn built_tokens(text: &str) -> Vec<String> {
    let all = tokens(text);
    let (mut built, mut at) = (Vec::new(), 0);
    while at < all.len() {
        if !all[at..].iter().take(7).eq(["#", "[", "cfg", "(", "test", ")", "]"]) {
            built.push(all[at].clone());
            at += 1;
            continue;
        }
        at += 7;
        // To the item's end: a semicolon, or the brace that closes its first one.
        let mut depth = 0usize;
        while at < all.len() {
            let token = all[at].as_str();
            at += 1;
            match token {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth = depth.saturating_sub(1),
                _ => (),
            }
            if depth == 0 && (token == "}" || token == ";") {
                break;
            }
        }
    }
    built
}

fn is_type(token: Option<&String>) -> bool {
    token.is_some_and(|token| token.ends_with("_t"))
}

/// The functions of C's that a file calls past `sys`: `libc::name(`, whatever gives libc or what is in it another name, and what an
/// `extern` block declares. What is only built for tests does not count.
fn calls_of_c(text: &str) -> Vec<String> {
    let tokens = built_tokens(text);
    let follows = |at: usize, sign: &str| tokens.get(at).is_some_and(|token| token == sign);
    let mut calls = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let word = at.checked_sub(1).map_or("", |before| tokens[before].as_str());
        if token == "libc" {
            if follows(at + 1, "::") && follows(at + 3, "(") {
                calls.push(tokens[at + 2].clone());
            } else if !follows(at + 1, "::") || word == "use" && !is_type(tokens.get(at + 2)) {
                calls.push("libc".to_owned());
            }
        } else if token == "extern" && follows(at + 1, "{") {
            calls.extend((at..tokens.len()).take_while(|at| !follows(*at, "}")).filter_map(|at| {
                let is_declared = tokens[at] == "fn" || tokens[at] == "static";
                is_declared.then(|| tokens.get(at + 1).cloned().unwrap_or_default())
            }));
        }
    }
    calls
}

#[test]
fn only_sys_calls_the_c_library() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    sources(&root, &root, &mut all);
    // The texts of errno are the errors'.
    let may = |path: &Path| path.starts_with("sys") || path == Path::new("error.rs");
    let is_test = |path: &Path| {
        let is_of_tests = |name: &str| name.starts_with("tests") || name == "fuzz.rs";
        path.components().any(|part| is_of_tests(&part.as_os_str().to_string_lossy()))
    };
    for (path, text) in all.iter().filter(|(path, _)| !may(path) && !is_test(path)) {
        let mut calls = calls_of_c(text);
        if path == Path::new("ffi/task.rs") {
            calls.retain(|name| name != "tine_fail_variadic"); // C's own: Rust cannot define it, and only hands it on.
        }
        assert!(calls.is_empty(), "{} calls {calls:?} of the C library", path.display());
    }
    assert_eq!(calls_of_c("fn f() { libc::close(3); libc::EINVAL; let p: libc::pid_t; }"), ["close"]);
    assert!(calls_of_c("use libc::pid_t; fn f(p: pid_t) {}").is_empty());
    assert_eq!(calls_of_c("use libc::close; fn f() { close(3); }"), ["libc"]);
    assert_eq!(calls_of_c("use libc::{EINVAL, close};"), ["libc"]);
    assert_eq!(calls_of_c("use libc as c; fn f() { c::close(3); }"), ["libc"]);
    assert_eq!(calls_of_c("use {libc as c};"), ["libc"]);
    assert_eq!(
        calls_of_c("extern \"C\" fn f() {} unsafe extern \"C\" { fn tine_submit(); }"),
        ["tine_submit"]
    );
    assert_eq!(calls_of_c("#[cfg(test)] mod fuzz; fn f() { libc::close(3); }"), ["close"]);
    assert_eq!(
        calls_of_c("#[cfg(test)] impl A { fn f() { libc::dup([3; 1]); } } fn f() { libc::close(3); }"),
        ["close"]
    );
}
