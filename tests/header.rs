//! `include/tine.h` is what cbindgen makes of `src/ffi` today. `make header` writes it anew.
//!
//! Each file of the list is one subject of the header: its title is the file's first line, and its constants, types
//! and functions stand together below it.

use std::fmt::Write as _;
use std::path::Path;

#[path = "header/plain.rs"]
mod plain;

const SUBJECTS: &[&str] = &[
    "errors",
    "start",
    "worker_options",
    "faults",
    "transport",
    "pool",
    "stats_text",
    "death",
    "submit",
    "map",
    "progress",
    "stream",
    "task",
    "memory",
    "segment",
    "heap",
    "sync",
    "sync_rwlock",
    "sync_signal",
    "sync_barrier",
    "queue",
    "queue_place",
    "channel",
    "channel_place",
    "process",
];

/// Functions that are declared by hand, because Rust has no way to define them: (the subject, the declaration).
const BY_HAND: &[(&str, &str)] = &[("task", include_str!("header/fail.h"))];

/// Structs of which no memory is one before a call has made it one.
const WITHOUT_INITIALISER: &[&str] = &["tine_barrier"];

#[test]
fn every_file_that_exports_something_is_a_subject() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ffi");
    let mut exporting = Vec::new();
    for entry in std::fs::read_dir(folder).expect("src/ffi is there") {
        let path = entry.expect("an entry of src/ffi").path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let exports =
                ["\n#[unsafe(no_mangle)]", "\npub const TINE_", "\npub struct tine_", "\npub type tine_"];
            if exports.iter().any(|export| text.contains(export)) {
                exporting.push(path.file_stem().expect("a name").to_str().expect("UTF-8").to_owned());
            }
        }
    }
    exporting.sort();
    let mut subjects = SUBJECTS.to_vec();
    subjects.sort();
    assert_eq!(exporting, subjects, "a file of src/ffi is missing in SUBJECTS, or one there exports nothing");
}

#[test]
fn arguments_are_inputs_then_the_timeout_then_outputs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/tine.h");
    let header = std::fs::read_to_string(path).expect("include/tine.h is there");
    let header = header.replace("\n    ", " ");
    let mut waits = 0;
    for line in header.lines().filter(|line| line.contains(" tine_") && line.ends_with(");")) {
        let (name, arguments) = line.trim_end_matches(");").split_once('(').unwrap();
        let arguments: Vec<&str> = arguments.split(", ").collect();
        let Some(timeout) = arguments.iter().position(|one| *one == "int64_t timeout_ns") else { continue };
        waits += 1;
        // What is written, and how much room there is for it.
        let is_output = |one: &&str| {
            (one.contains('*') && !one.starts_with("const "))
                || one.ends_with(" capacity")
                || one.ends_with(" count")
        };
        assert!(arguments[timeout + 1..].iter().all(is_output), "{name}: an input comes after the timeout");
        // Objects, and a word of the caller's that is carried along.
        let is_place = |one: &&str| one.contains("**") || one.ends_with("*out") || one.ends_with("*buffer");
        assert!(!arguments[..timeout].iter().any(is_place), "{name}: an output comes before the timeout");
    }
    assert!(waits > 25, "{waits} functions that wait");
}

/// The comments of the calls in the header: (name, returns something, the comment in one line, the names of its parameters).
fn calls(header: &str) -> Vec<(String, bool, String, Vec<String>)> {
    let mut calls = Vec::new();
    for part in header.split("/**").skip(1) {
        let Some((comment, code)) = part.split_once("*/") else { continue };
        let declaration = code.split([';', '#']).next().unwrap_or_default().replace('\n', " ");
        let Some((front, arguments)) = declaration.split_once('(') else { continue };
        let Some((result, name)) = front.split_at_checked(front.rfind([' ', '*']).map_or(0, |at| at + 1))
        else {
            continue;
        };
        if !name.starts_with("tine_") || front.contains("typedef") || front.contains('{') {
            continue;
        }
        // A function's own parameters are no parameters of the call.
        let arguments = arguments
            .trim()
            .trim_end_matches(')')
            .replace("(void *user)", "")
            .replace("(*", "")
            .replace(')', "");
        let names = arguments.split(',').filter_map(|one| one.rsplit([' ', '*']).next());
        let names = names.filter(|name| !matches!(*name, "void" | "...")).map(str::to_owned).collect();
        let comment: Vec<&str> = comment.lines().map(|line| line.trim().trim_start_matches("* ")).collect();
        calls.push((name.to_owned(), result.trim() != "void", comment.join(" "), names));
    }
    calls
}

/// A page of the manual is one comment: it has to say everything about its call.
#[test]
fn every_call_has_its_parameters_its_return_its_threads_and_its_child() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/tine.h");
    let calls = calls(&std::fs::read_to_string(path).expect("include/tine.h is there"));
    assert!(calls.len() > 130, "{} calls", calls.len());
    let mut missing = Vec::new();
    for (name, returns, comment, parameters) in &calls {
        let about = comment.split_once("Parameters: ").map_or("", |(_, rest)| rest);
        let about = about.split(" Returns").next().unwrap_or_default();
        let said =
            |word: &String| about.split(|c: char| !c.is_alphanumeric() && c != '_').any(|one| one == word);
        missing.extend(parameters.iter().filter(|word| !said(word)).map(|word| format!("{name}: {word}")));
        let parts = [(*returns, " Returns"), (true, " Threads: "), (true, " Fork: ")];
        missing.extend(
            parts
                .iter()
                .filter(|(due, part)| *due && !comment.contains(part))
                .map(|(_, part)| format!("{name}:{part}")),
        );
    }
    assert!(missing.is_empty(), "not in the comments: {missing:#?}");
}

/// A flag of one object that is given to another is -EINVAL only if no flag of the other has its bit.
#[test]
fn no_two_flags_have_a_bit_in_common() {
    const COUNTS: &[&str] =
        &["TINE_MOST_HELD", "TINE_BARRIER_PARTIES", "TINE_RWLOCK_READERS", "TINE_TRANSPORT_VERSION"];
    let mut flags: Vec<(String, u32)> = Vec::new();
    for subject in SUBJECTS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/ffi/{subject}.rs"));
        let source =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for line in source.lines().filter_map(|line| line.strip_prefix("pub const ")) {
            let Some((name, value)) = line.trim_end_matches(';').split_once(": u32 = ") else { continue };
            if COUNTS.contains(&name) {
                continue;
            }
            let (base, shift) = value.split_once(" << ").unwrap_or((value, "0"));
            let number = |text: &str| text.parse::<u32>().unwrap_or_else(|_| panic!("{name} is {value}"));
            flags.push((name.to_owned(), number(base) << number(shift)));
        }
    }
    assert!(flags.len() >= 18, "{flags:?}");
    for (at, (name, bit)) in flags.iter().enumerate() {
        assert!(bit.is_power_of_two(), "{name} is {bit:#x}");
        let other = flags[..at].iter().find(|(_, taken)| taken == bit);
        assert!(other.is_none(), "{name} has the bit of {}", other.unwrap().0);
    }
}

#[test]
fn headers_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = generate(root);
    for (name, fresh) in [("include/tine-ffi.h", plain::plain(&header)), ("include/tine.h", header)] {
        if std::env::var_os("TINE_WRITE_HEADER").is_some_and(|value| !value.is_empty()) {
            std::fs::write(root.join(name), &fresh).unwrap_or_else(|error| panic!("{name}: {error}"));
            continue;
        }
        let committed =
            std::fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(committed == fresh, "{name} is stale: run `make header` and look at the difference");
    }
}

fn generate(root: &Path) -> String {
    let mut header = preamble();
    for subject in SUBJECTS {
        let path = root.join(format!("src/ffi/{subject}.rs"));
        let source =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let title =
            source.lines().next().and_then(|line| line.strip_prefix("//! ")).expect("a first line of docs");
        let title = title.trim_end_matches('.');
        writeln!(header, "\n/* ---- {title} {} */\n", "-".repeat(106 - title.len())).unwrap();
        let declarations = compact(&with_initialisers(&declarations(root, &path)));
        header.push_str(declarations.trim());
        header.push('\n');
        for (_, declaration) in BY_HAND.iter().filter(|(of, _)| of == subject) {
            write!(header, "\n{declaration}\n").unwrap();
        }
    }
    header.push_str("\n#ifdef __cplusplus\n}\n#endif\n\n#endif /* TINE_H */\n");
    header
}

/// The preamble's version macros come from Cargo.toml, so that there is one place to change.
fn preamble() -> String {
    include_str!("header/preamble.h")
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@MAJOR@", env!("CARGO_PKG_VERSION_MAJOR"))
        .replace("@MINOR@", env!("CARGO_PKG_VERSION_MINOR"))
        .replace("@PATCH@", env!("CARGO_PKG_VERSION_PATCH"))
}

fn declarations(root: &Path, source: &Path) -> String {
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml reads");
    let mut raw = Vec::new();
    cbindgen::Builder::new()
        .with_src(source)
        .with_config(config)
        .generate()
        .unwrap_or_else(|error| panic!("cbindgen on {}: {error}", source.display()))
        .write(&mut raw);
    // Rust's comments mark names with backquotes, which mean nothing in C; and what has a typedef needs no "struct".
    let text = String::from_utf8(raw).expect("cbindgen writes UTF-8").replace('`', "");
    let lines = text.lines().map(|line| match line.starts_with("typedef struct") {
        true => line.to_owned(),
        false => line.replace("struct tine_", "tine_"),
    });
    lines.map(|line| line + "\n").collect()
}

/// Puts behind each struct a `TINE_<NAME>_INIT` that lists every field.
fn with_initialisers(header: &str) -> String {
    let mut out = String::new();
    let mut fields: Option<Vec<String>> = None;
    for line in header.lines() {
        out.push_str(line);
        out.push('\n');
        if line.starts_with("typedef struct tine_") && line.ends_with('{') {
            fields = Some(Vec::new());
        } else if let Some(name) = line.strip_prefix("} ").and_then(|rest| rest.strip_suffix(';')) {
            let fields = fields.take().unwrap_or_default();
            if !fields.is_empty() && !WITHOUT_INITIALISER.contains(&name) {
                let value = |field: &String| match field.as_str() {
                    "size_t size;" => format!("sizeof({name})"),
                    field => zero_of(field).to_owned(),
                };
                let values: Vec<String> = fields.iter().map(value).collect();
                let line = format!("#define {}_INIT {{ {} }}", name.to_uppercase(), values.join(", "));
                writeln!(out, "{}", folded(&line)).unwrap();
            }
        } else if let Some(fields) = &mut fields {
            let code = line.trim();
            if code.ends_with(';') && !code.starts_with('*') && !code.starts_with("/*") {
                fields.push(code.to_owned());
            }
        }
    }
    out
}

fn zero_of(field: &str) -> &'static str {
    const FUNCTIONS: &[&str] = &["tine_fn ", "tine_item_fn ", "tine_range_fn "];
    if field.contains('[') {
        "{0}"
    } else if field.contains('*') || FUNCTIONS.iter().any(|function| field.starts_with(function)) {
        "NULL"
    } else {
        "0"
    }
}

/// Puts comments of one line on one line, and breaks the lines of functions with many parameters.
fn compact(header: &str) -> String {
    let lines: Vec<&str> = header.lines().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim() == "/**" && lines.get(at + 2).is_some_and(|end| end.trim() == "*/") {
            let text = lines[at + 1].trim().trim_start_matches("* ");
            writeln!(out, "{indent}/** {text} */").unwrap();
            at += 3;
            continue;
        }
        let is_function = line.ends_with(");") && line.len() > 116 && indent.is_empty();
        out.push_str(&if is_function { broken(line) } else { line.to_owned() });
        out.push('\n');
        at += 1;
    }
    out
}

/// A function's declaration on as few lines as it needs.
fn broken(line: &str) -> String {
    let mut out = String::new();
    let mut width = 0;
    for part in line.split_inclusive(", ") {
        if width + part.trim_end().len() > 112 {
            out.truncate(out.trim_end().len());
            out.push_str("\n    ");
            width = 4;
        }
        out.push_str(part);
        width += part.len();
    }
    out
}

/// Breaks a macro's line where it would be too long.
fn folded(line: &str) -> String {
    let mut out = String::new();
    let mut width = 0;
    for word in line.split_inclusive(' ') {
        if width + word.len() > 104 {
            out.push_str("\\\n    ");
            width = 4;
        }
        out.push_str(word);
        width += word.len();
    }
    out
}
