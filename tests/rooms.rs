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
        let length = if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if first == '"' {
            let mut end = 1;
            while end < rest.len() && rest.as_bytes()[end] != b'"' {
                end += if rest.as_bytes()[end] == b'\\' { 2 } else { 1 };
            }
            end + 1
        } else if rest.starts_with("'\"'") || rest.starts_with("'{'") || rest.starts_with("'}'") {
            3
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

/// The rooms that a file names: `crate::room`, `crate::{room, ...}`, and the same by as many `super::` as lead to the root.
fn named_rooms(path: &Path, text: &str) -> BTreeSet<String> {
    let stem = path.file_stem().expect("a file's name").to_str().expect("a name in UTF-8");
    let folders = path.components().count() - 1;
    // How far below the root the file's own module is.
    let own = if stem == "mod" { folders } else { folders + 1 };
    let tokens = tokens(text);
    let (mut rooms, mut braces, mut inner) = (BTreeSet::new(), 0usize, Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => braces += 1,
            "}" => {
                braces = braces.saturating_sub(1);
                inner.retain(|opened| *opened < braces + 1);
            }
            "mod" if tokens.get(at + 2).is_some_and(|token| token == "{") => inner.push(braces + 1),
            "crate" if is_path(&tokens, at) => first_segments(&tokens, at + 2, &mut rooms),
            "super" if is_path(&tokens, at) && (at < 2 || tokens[at - 1] != "::") => {
                let mut up = 1;
                let mut next = at + 2;
                while tokens.get(next).is_some_and(|token| token == "super") && is_path(&tokens, next) {
                    (up, next) = (up + 1, next + 2);
                }
                if up >= own + inner.len() {
                    first_segments(&tokens, next, &mut rooms);
                }
            }
            _ => (),
        }
        at += 1;
    }
    rooms
}

fn is_path(tokens: &[String], at: usize) -> bool {
    tokens.get(at + 1).is_some_and(|token| token == "::")
}

/// The first segment of a path, or of each path of a list in braces.
fn first_segments(tokens: &[String], at: usize, into: &mut BTreeSet<String>) {
    if tokens.get(at).is_none_or(|token| token != "{") {
        into.extend(tokens.get(at).map(|name| room_of(name)));
        return;
    }
    let (mut depth, mut begins) = (0, false);
    for token in &tokens[at..] {
        match token.as_str() {
            "{" => (depth, begins) = (depth + 1, depth == 0),
            "}" if depth == 1 => return,
            "}" => depth -= 1,
            "," => begins = depth == 1,
            name => {
                if begins {
                    into.insert(room_of(name));
                }
                begins = false;
            }
        }
    }
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
            let other = floor_of(&room).unwrap_or_else(|| panic!("{file} names {room}, which is no room"));
            if other >= floor && room != own {
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

/// The functions of the C library that a file calls: `libc::name(`. What is only built for tests does not count.
fn calls_of_libc(text: &str) -> Vec<String> {
    let tokens = built_tokens(text);
    let calls = tokens.windows(4).filter(|four| four[0] == "libc" && four[1] == "::" && four[3] == "(");
    calls.map(|four| four[2].clone()).collect()
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
        let calls = calls_of_libc(text);
        assert!(calls.is_empty(), "{} calls {calls:?} of the C library", path.display());
    }
    assert_eq!(calls_of_libc("fn f() { libc::close(3); libc::EINVAL; let p: libc::pid_t; }"), ["close"]);
    assert_eq!(calls_of_libc("#[cfg(test)] mod fuzz; fn f() { libc::close(3); }"), ["close"]);
    assert_eq!(
        calls_of_libc("#[cfg(test)] impl A { fn f() { libc::dup([3; 1]); } } fn f() { libc::close(3); }"),
        ["close"]
    );
}
